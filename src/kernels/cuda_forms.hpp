// Which kernels run in a CUDA form on a GPU: known to builds without CUDA too, so that all of them plan alike.
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace vixen {

/// Rows of the kernel table that cuda/table.cpp fills in; a test holds the two to each other.
inline constexpr std::array<std::string_view, 19> kCudaForms = {
    "norm_forward",  "norm_backward", "rms_forward",        "rms_again",
    "rms_backward",  "head_norm",     "head_norm_backward", "dropout",
    "rope",          "swiglu",        "swiglu_backward",    "gelu",
    "gelu_backward", "column_sums",   "embed_positions",    "embed_tokens",
    "segment_sums",  "mean_pool",     "mean_pool_backward"};

inline bool has_cuda_form(std::string_view row) {
  return std::find(kCudaForms.begin(), kCudaForms.end(), row) != kCudaForms.end();
}

/// What varlen flash attention takes: bfloat16, no dropout (its own random numbers are not ours), heads of a multiple
/// of 8 up to 256 columns.
constexpr bool flash_takes(at::ScalarType dtype, int64_t head_dim, bool drops) {
  return dtype == at::kBFloat16 && !drops && head_dim % 8 == 0 && head_dim <= 256;
}

}  // namespace vixen
