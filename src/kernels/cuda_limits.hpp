// How far the CUDA kernels go, for those who choose a form, for the memory plan and for the launchers: what is beyond
// runs as another form. No ATen here: nvcc reads this.
#pragma once

#include <cstdint>

namespace vixen {

/// Dynamic shared memory that a block may ask for on every architecture of ours: 163 KiB, what sm_80 has, less what
/// kernels declare themselves.
inline constexpr int64_t kMostSharedBytes = (163 << 10) - 512;

/// The kernel of attention over short sequences (cuda/attention.cu): positions of the longest sequence, columns of a
/// head, and queries of a sequence to one key-value head, all query heads together, whose statistics it holds.
inline constexpr int64_t kShortPositions = 256, kShortColumns = 128, kShortQueries = 2048;
/// Shared memory of its backward with one warp: two matrices of `longest` rows, the warp's tile of four, statistics.
constexpr int64_t short_attention_shared_bytes(int64_t head_dim, int64_t longest, int64_t sharing) {
  const int64_t quads = (head_dim + 3) / 4, stride = quads | 1;
  return 16 * (2 * longest * stride + 2 * (4 * quads + 32)) + 8 * sharing * longest;
}

/// Shared memory of the norms' kernels for rows of `width` numbers of `element` bytes (cuda/norm.cu, cuda/rms_norm.cu).
constexpr int64_t norm_shared_bytes(int64_t element, int64_t width) {
  return element * width;
}
constexpr int64_t norm_backward_shared_bytes(int64_t element, int64_t width) {
  return (2 * element + 8) * width;
}
constexpr int64_t rms_backward_shared_bytes(int64_t element, int64_t width, bool trains_weight) {
  return (2 * element + (trains_weight ? 4 : 0)) * width;
}

}  // namespace vixen
