// The CUDA kernels of layer norm with dropout and residual, emulated: against the reference, masks to the bit, bytes.
#include "kernels/norm.hpp"

#include "emulated/comparison.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kNorm;
// Rows of less than a vector, of a part of a warp, of several turns of a block.
constexpr int64_t kWidths[] = {1, 13, 8, 44, 96, 1030, 2104};

struct Drop {
  Dropout dropout;
  int64_t row_bytes;  // of a thread: the row's keys
};
const Drop kDrops[] = {{{}, 0}, {{.p = 0.3, .seed = 5, .step = 3, .site = 2}, 12}};

int64_t threads_of(at::ScalarType dtype, int64_t width) {
  return std::min<int64_t>(256, (width / lanes_of(dtype, width) + 31) / 32 * 32);
}

/// 36 rows, which are two chunks, or 6 wide ones.
test::Packed batch_for(int64_t width) {
  return test::pack(mixed_lengths(width < 1000 ? 8 : 3));
}

TEST(EmulatedNorm, ForwardMeetsTheReference) {
  for (const auto dtype : test::kStorages)
    for (const int64_t width : kWidths)
      for (const auto& [dropout, row_bytes] : kDrops) {
        SCOPED_TRACE(testing::Message() << width << " columns, dropout " << dropout.p);
        const test::Packed packed = batch_for(width);
        const int64_t rows = packed.positions;
        const at::Tensor x = random({rows, width}, 1, dtype), residual = random({rows, width}, 2, dtype);
        const at::Tensor weight = random({width}, 3), bias = random({width}, 4);
        const int64_t bytes = element_bytes(dtype) * rows * width;
        const int64_t cached = rows * (8 * width + row_bytes * threads_of(dtype, width));
        Counts counted = expect_meets_reference("norm_forward", kFamily, dtype, [&] {
          const auto got = dropout_add_norm(x, residual, weight, bias, 1e-6, packed.keys, dropout);
          return Results{got.y, got.sum, got.stats};
        });
        EXPECT_EQ(counted.loaded_bytes, 2 * bytes + cached);
        EXPECT_EQ(counted.stored_bytes, 2 * bytes + 8 * rows);
        EXPECT_EQ(counted.shared_bytes, element_bytes(dtype) * width + 4 * 8);
        counted = expect_meets_reference("norm_forward", kFamily, dtype, [&] {
          const auto got = dropout_add_norm(x, {}, weight, bias, 1e-6, packed.keys, dropout);
          return Results{got.y, got.sum, got.stats};
        });
        EXPECT_EQ(counted.loaded_bytes, bytes + cached);
        EXPECT_EQ(counted.stored_bytes, (dropout.active() ? 2 : 1) * bytes + 8 * rows);
        counted = expect_meets_reference("norm_forward", kFamily, dtype, [&] {
          const auto got = norm_dropout(x, weight, bias, 1e-6, packed.keys, dropout);
          return Results{got.y, got.stats};
        });
        EXPECT_EQ(counted.loaded_bytes, bytes + cached);
        EXPECT_EQ(counted.stored_bytes, bytes + 8 * rows);
      }
}

TEST(EmulatedNorm, BackwardMeetsTheReference) {
  for (const auto dtype : test::kStorages)
    for (const int64_t width : kWidths)
      for (const auto& [dropout, row_bytes] : kDrops) {
        if (width == 1) continue;  // its own mean: the gradient is nothing but rounding
        SCOPED_TRACE(testing::Message() << width << " columns, dropout " << dropout.p);
        const test::Packed packed = batch_for(width);
        const int64_t rows = packed.positions;
        const at::Tensor grad = random({rows, width}, 5, dtype), x = random({rows, width}, 1, dtype);
        const at::Tensor weight = random({width}, 3), bias = random({width}, 4);
        const int64_t bytes = element_bytes(dtype) * rows * width;
        const int64_t cached = rows * (8 * width + (8 + row_bytes) * threads_of(dtype, width));
        const auto forward =
            reference::dropout_add_norm(x, random({rows, width}, 2, dtype), weight, bias, 1e-6, packed.keys, dropout);
        Counts counted = expect_meets_reference("norm_backward", kFamily, dtype, [&] {
          at::Tensor grad_weight = random({width}, 6), grad_bias = random({width}, 7);
          const auto got =
              dropout_add_norm_backward(grad, forward, weight, packed.keys, dropout, grad_weight, grad_bias);
          return Results{got.x, got.residual, grad_weight, grad_bias};
        });  // one column is its own mean: its gradient is nothing but rounding
        EXPECT_EQ(counted.loaded_bytes, 2 * bytes + cached);
        EXPECT_EQ(counted.stored_bytes, (dropout.active() ? 2 : 1) * bytes + 8 * chunk_count(rows) * width);
        EXPECT_EQ(counted.shared_bytes, (2 * element_bytes(dtype) + 8) * width + 4 * 16);
        const auto after = reference::norm_dropout(x, weight, bias, 1e-6, packed.keys, dropout);
        counted = expect_meets_reference("norm_backward", kFamily, dtype, [&] {
          at::Tensor grad_weight = random({width}, 6), grad_bias = random({width}, 7);
          const at::Tensor got =
              norm_dropout_backward(grad, after, weight, packed.keys, dropout, grad_weight, grad_bias);
          return Results{got, grad_weight, grad_bias};
        });
        EXPECT_EQ(counted.loaded_bytes, 2 * bytes + cached);
        EXPECT_EQ(counted.stored_bytes, bytes + 8 * chunk_count(rows) * width);
      }
}

// The masks of all forms are one: of dropout alone, and of the one in the norm.
TEST(EmulatedNorm, MasksAreTheReferences) {
  const Dropout dropout = kDrops[1].dropout;
  for (const auto dtype : test::kStorages)
    for (const int64_t width : kWidths) {
      SCOPED_TRACE(testing::Message() << width << " columns");
      const test::Packed packed = batch_for(width);
      const int64_t rows = packed.positions;
      const at::Tensor ones = at::ones({rows, width}, dtype), want = dropout_mask(packed.keys, width, dropout);
      const Counts counted = expect_meets_reference("dropout", KernelFamily::kDropout, dtype, [&] {
        return Results{vixen::apply_dropout(random({rows, width}, 1, dtype), packed.keys, dropout)};
      });
      const int64_t bytes = element_bytes(dtype) * rows * width;
      EXPECT_EQ(counted.loaded_bytes, bytes + 12 * rows * (width / lanes_of(dtype, width)));
      EXPECT_EQ(counted.stored_bytes, bytes);
      const Emulation emulation;
      EXPECT_TRUE(at::equal(vixen::apply_dropout(ones, packed.keys, dropout).ne(0), want.to(at::kBool)));
      const at::Tensor weight = at::ones({width}), bias = at::zeros({width});
      const at::Tensor sum = dropout_add_norm(ones, {}, weight, bias, 1e-6, packed.keys, dropout).sum;
      EXPECT_TRUE(at::equal(sum.ne(0), want.to(at::kBool)));
    }
}

}  // namespace
}  // namespace vixen::emulated
