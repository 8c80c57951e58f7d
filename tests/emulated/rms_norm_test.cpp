// The CUDA kernels of the RMS norm, emulated: against the reference, frozen weights, bytes and shared memory.
#include "kernels/rms_norm.hpp"

#include "emulated/comparison.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kNorm;

struct Shape {
  int64_t rows, width;
};
// Rows of less than a warp, of a part of one, of several turns of a block; one chunk, and three of unequal length.
constexpr Shape kShapes[] = {{1, 1}, {3, 13}, {2, 8}, {33, 96}, {2, 4104}, {3, 1030}, {70, 44}};

/// Threads of a block that works on a row.
int64_t threads_of(at::ScalarType dtype, int64_t width) {
  const int64_t vectors = width / lanes_of(dtype, width);
  return std::min<int64_t>(256, (vectors + 31) / 32 * 32);
}

TEST(EmulatedRmsNorm, ForwardMeetsTheReference) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, width] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << width);
      const at::Tensor x = random({rows, width}, 1, dtype), residual = random({rows, width}, 2, dtype);
      const at::Tensor weight = random({width}, 3);
      const int64_t bytes = element_bytes(dtype) * rows * width;
      Counts counted = expect_meets_reference("rms_forward", kFamily, dtype, [&] {
        const auto got = add_rms_norm(x, residual, weight, 1e-6);
        return Results{got.y, got.sum, got.rstd};
      });
      EXPECT_EQ(counted.loaded_bytes, 2 * bytes + 4 * rows * width);
      EXPECT_EQ(counted.stored_bytes, 2 * bytes + 4 * rows);
      EXPECT_EQ(counted.shared_bytes, element_bytes(dtype) * width + 4 * 8);
      counted = expect_meets_reference("rms_forward", kFamily, dtype, [&] {
        const auto got = add_rms_norm(x, {}, weight, 1e-6);
        return Results{got.y, got.sum, got.rstd};
      });
      EXPECT_EQ(counted.loaded_bytes, bytes + 4 * rows * width);
      EXPECT_EQ(counted.stored_bytes, bytes + 4 * rows);
    }
}

TEST(EmulatedRmsNorm, AgainIsTheForwardToTheBit) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, width] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << width);
      const at::Tensor x = random({rows, width}, 1, dtype), residual = random({rows, width}, 2, dtype);
      const at::Tensor weight = random({width}, 3);
      const auto forward = reference::add_rms_norm(x, residual, weight, 1e-6);
      const Counts counted = expect_meets_reference(
          "rms_again", kFamily, dtype, [&] { return Results{rms_norm_again(forward.sum, forward.rstd, weight)}; });
      EXPECT_EQ(counted.loaded_bytes, rows * width * (element_bytes(dtype) + 4) + 4 * rows * threads_of(dtype, width));
      EXPECT_EQ(counted.stored_bytes, rows * width * element_bytes(dtype));
      const Emulation emulation;
      const auto fused = add_rms_norm(x, residual, weight, 1e-6);
      EXPECT_TRUE(same_bits(rms_norm_again(fused.sum, fused.rstd, weight), fused.y));
    }
}

TEST(EmulatedRmsNorm, BackwardMeetsTheReference) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, width] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << width);
      const at::Tensor grad = random({rows, width}, 4, dtype), along = random({rows, width}, 5, dtype);
      const at::Tensor weight = random({width}, 3);
      const auto forward =
          reference::add_rms_norm(random({rows, width}, 1, dtype), random({rows, width}, 2, dtype), weight, 1e-6);
      const int64_t bytes = element_bytes(dtype) * rows * width;
      const int64_t cached = rows * (8 * width + 4 * threads_of(dtype, width));
      Counts counted = expect_meets_reference("rms_backward", kFamily, dtype, [&] {
        at::Tensor grad_weight = random({width}, 6);
        const auto got = add_rms_norm_backward(grad, along, forward.sum, forward.rstd, weight, grad_weight);
        return Results{got, grad_weight};
      });
      EXPECT_EQ(counted.loaded_bytes, 3 * bytes + cached);
      EXPECT_EQ(counted.stored_bytes, bytes + 4 * chunk_count(rows) * width);
      EXPECT_EQ(counted.shared_bytes, (2 * element_bytes(dtype) + 4) * width + 4 * 8);
      // A frozen weight, and nothing along the residual.
      counted = expect_meets_reference("rms_backward", kFamily, dtype, [&] {
        return Results{add_rms_norm_backward(grad, {}, forward.sum, forward.rstd, weight, {})};
      });
      EXPECT_EQ(counted.loaded_bytes, 2 * bytes + cached);
      EXPECT_EQ(counted.stored_bytes, bytes);
    }
}

TEST(EmulatedRmsNorm, RowsOfZerosStayFinite) {
  for (const auto dtype : test::kStorages) {
    const at::Tensor zeros = at::zeros({2, 40}, dtype), weight = random({40}, 3);
    expect_meets_reference("rms_forward", kFamily, dtype, [&] {
      const auto got = add_rms_norm(zeros, {}, weight, 1e-6);
      return Results{got.y, got.rstd};
    });
  }
}

}  // namespace
}  // namespace vixen::emulated
