// Which kernels run in a CUDA form on a GPU: known to builds without CUDA too, so that all of them plan alike.
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "kernels/cuda_limits.hpp"
#include "kernels/packed_attention.hpp"

namespace vixen {

/// Rows of the kernel table that cuda/table.cpp fills in; a test holds the two to each other.
inline constexpr std::array<std::string_view, 21> kCudaForms = {"attention_forward",
                                                                "attention_backward",
                                                                "norm_forward",
                                                                "norm_backward",
                                                                "rms_forward",
                                                                "rms_again",
                                                                "rms_backward",
                                                                "head_norm",
                                                                "head_norm_backward",
                                                                "dropout",
                                                                "rope",
                                                                "swiglu",
                                                                "swiglu_backward",
                                                                "gelu",
                                                                "gelu_backward",
                                                                "column_sums",
                                                                "embed_positions",
                                                                "embed_tokens",
                                                                "segment_sums",
                                                                "mean_pool",
                                                                "mean_pool_backward"};

inline bool has_cuda_form(std::string_view row) {
  return std::find(kCudaForms.begin(), kCudaForms.end(), row) != kCudaForms.end();
}

/// What varlen flash attention takes: bfloat16, no dropout (its own random numbers are not ours), heads of a multiple
/// of 8 up to 256 columns.
constexpr bool flash_takes(at::ScalarType dtype, int64_t head_dim, bool drops) {
  return dtype == at::kBFloat16 && !drops && head_dim % 8 == 0 && head_dim <= 256;
}

/// What the kernel for short sequences takes (cuda/attention.cu), as its shared memory allows.
constexpr bool short_attention_takes(at::ScalarType dtype, int64_t head_dim, const AttentionShape& shape) {
  const int64_t sharing = shape.heads / shape.key_value_heads();
  return (dtype == at::kFloat || dtype == at::kBFloat16) && shape.max_seqlen <= kShortPositions &&
         head_dim <= kShortColumns && sharing * shape.max_seqlen <= kShortQueries &&
         short_attention_shared_bytes(head_dim, shape.max_seqlen, sharing) <= kMostSharedBytes;
}

/// The form that a GPU runs unless the reference is asked for: where flash attention and the kernel for short sequences
/// both apply, the latter up to kShortBeforeFlash positions. Why there: cuda/attention.cu.
inline constexpr int64_t kShortBeforeFlash = 64;
constexpr AttentionForm cuda_attention_form(at::ScalarType dtype, int64_t head_dim, const AttentionShape& shape,
                                            bool drops) {
  const bool flash = flash_takes(dtype, head_dim, drops);
  if (short_attention_takes(dtype, head_dim, shape) && (!flash || shape.max_seqlen <= kShortBeforeFlash))
    return AttentionForm::kFused;
  return flash ? AttentionForm::kFlash : AttentionForm::kReference;
}

/// Whether the norms' kernels have room for rows of `width`.
constexpr int64_t element_of(at::ScalarType dtype) {
  return dtype == at::kFloat ? 4 : 2;
}
constexpr bool norm_fits(at::ScalarType dtype, int64_t width) {
  return norm_shared_bytes(element_of(dtype), width) <= kMostSharedBytes;
}
constexpr bool norm_backward_fits(at::ScalarType dtype, int64_t width) {
  return norm_backward_shared_bytes(element_of(dtype), width) <= kMostSharedBytes;
}
constexpr bool rms_backward_fits(at::ScalarType dtype, int64_t width) {
  return rms_backward_shared_bytes(element_of(dtype), width, /*trains_weight=*/true) <= kMostSharedBytes;
}

}  // namespace vixen
