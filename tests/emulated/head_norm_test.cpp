// The CUDA kernels of the norm of query and key heads, emulated: against the reference, frozen weights, bytes.
#include "kernels/head_norm.hpp"

#include "emulated/comparison.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kNorm;

struct Shape {
  int64_t rows, heads, kv_heads, head_dim;
};
// Heads of one lane, of a part of a warp, and of more than a warp; blocks that are not full; one chunk and three.
constexpr Shape kShapes[] = {{1, 1, 1, 1}, {5, 3, 1, 8}, {70, 4, 2, 24}, {3, 14, 2, 64}, {2, 2, 1, 77}, {3, 3, 2, 288}};

/// Lanes that share a head, and whether it is more than a vector for each.
struct Lanes {
  int64_t count;
  bool again;
};
Lanes lanes_for(at::ScalarType dtype, int64_t head_dim) {
  const int64_t vectors = head_dim / lanes_of(dtype, head_dim);
  Lanes lanes{1, false};
  while (lanes.count < 32 && lanes.count < vectors) lanes.count *= 2;
  lanes.again = vectors > lanes.count;
  return lanes;
}

TEST(EmulatedHeadNorm, ForwardMeetsTheReference) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, heads, kv_heads, head_dim] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << heads << " heads of " << head_dim);
      const AttentionShape shape{.heads = heads, .max_seqlen = rows, .kv_heads = kv_heads, .causal = true};
      const int64_t width = (heads + 2 * kv_heads) * head_dim, normed = heads + kv_heads;
      const at::Tensor x = random({rows, width}, 1, dtype), q = random({head_dim}, 2), k = random({head_dim}, 3);
      const Counts counted = expect_meets_reference("head_norm", kFamily, dtype, [&] {
        const auto got = head_norm(x, q, k, 1e-6, shape);
        return Results{got.qkv, got.rstd};
      });
      EXPECT_EQ(counted.stored_bytes, rows * (element_bytes(dtype) * width + 4 * normed));
      if (!lanes_for(dtype, head_dim).again) {
        EXPECT_EQ(counted.loaded_bytes, rows * (element_bytes(dtype) * width + 4 * normed * head_dim));
      }
    }
}

TEST(EmulatedHeadNorm, BackwardMeetsTheReference) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, heads, kv_heads, head_dim] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << heads << " heads of " << head_dim);
      const AttentionShape shape{.heads = heads, .max_seqlen = rows, .kv_heads = kv_heads, .causal = true};
      const int64_t width = (heads + 2 * kv_heads) * head_dim, normed = heads + kv_heads;
      const at::Tensor x = random({rows, width}, 1, dtype), q = random({head_dim}, 2), k = random({head_dim}, 3);
      const at::Tensor grad = random({rows, width}, 4, dtype);
      const auto forward = reference::head_norm(x, q, k, 1e-6, shape);
      Counts counted = expect_meets_reference("head_norm_backward", kFamily, dtype, [&] {
        at::Tensor grad_q = random({head_dim}, 5), grad_k = random({head_dim}, 6);
        const auto got = head_norm_backward(grad, x, forward.rstd, q, k, shape, grad_q, grad_k);
        return Results{got, grad_q, grad_k};
      });
      const auto [lanes, again] = lanes_for(dtype, head_dim);
      const int64_t stored = element_bytes(dtype) * rows * width;
      EXPECT_EQ(counted.stored_bytes, stored + 8 * chunk_count(rows) * head_dim);
      const int64_t loaded =
          rows * (element_bytes(dtype) * (2 * normed + kv_heads) * head_dim + normed * (8 * head_dim + 4 * lanes));
      if (!again) {
        EXPECT_EQ(counted.loaded_bytes, loaded);
      }
      // Both weights frozen: no sums.
      counted = expect_meets_reference("head_norm_backward", kFamily, dtype, [&] {
        return Results{head_norm_backward(grad, x, forward.rstd, q, k, shape, {}, {})};
      });
      EXPECT_EQ(counted.stored_bytes, stored);
      if (!again) {
        EXPECT_EQ(counted.loaded_bytes, loaded);
      }
    }
}

}  // namespace
}  // namespace vixen::emulated
