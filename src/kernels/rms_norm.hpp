// Root-mean-square norm fused with the residual in front of it, as pre-norm decoders have it.
//   T positions, D width; x, residual, y float32 or bfloat16; statistics, weights and their gradients float32
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

struct RmsNormResult {
  at::Tensor y;     // [T, D]: weight * sum / rms(sum)
  at::Tensor sum;   // [T, D]: x + residual, rounded to the dtype of x (x itself without residual)
  at::Tensor rstd;  // float32 [T]: 1 / sqrt(mean(sum^2) + eps)
};

/// Bytes of `rstd` for T positions.
constexpr int64_t rms_norm_statistics_bytes(int64_t positions) {
  return int64_t{sizeof(float)} * positions;
}

/// residual may be undefined. weight float32 [D].
RmsNormResult add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps);

/// y once more, to the bit, from what was saved (activations that are not kept). [T, D].
at::Tensor rms_norm_again(const at::Tensor& sum, const at::Tensor& rstd, const at::Tensor& weight);

/// Gradient of sum [T, D] (that of x and of residual alike): through the norm, plus grad_sum [T, D], what comes along
/// the residual (may be undefined). Adds to grad_weight float32 [D] when it is defined, in a fixed order of rows.
at::Tensor add_rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& grad_sum, const at::Tensor& sum,
                                 const at::Tensor& rstd, const at::Tensor& weight, at::Tensor grad_weight);

}  // namespace vixen
