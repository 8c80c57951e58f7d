// Mean pooling over live positions, and row normalisation. float32 out.
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

/// x [T, D] float32 or bfloat16, cu_seqlens int32 [n+1] -> float32 [n, D]: mean over each sequence's positions.
at::Tensor mean_pool(const at::Tensor& x, const at::Tensor& cu_seqlens);
/// grad [n, D] float32 -> gradient of x [T, D] in `dtype`.
at::Tensor mean_pool_backward(const at::Tensor& grad, const at::Tensor& cu_seqlens, int64_t n_positions,
                              at::ScalarType dtype);

/// One position of each sequence: x [T, D], positions int64 [n] -> float32 [n, D].
at::Tensor pick_pool(const at::Tensor& x, const at::Tensor& positions);
/// grad [n, D] float32 -> gradient of x [T, D] in `dtype`, 0 elsewhere.
at::Tensor pick_pool_backward(const at::Tensor& grad, const at::Tensor& positions, int64_t n_positions,
                              at::ScalarType dtype);

/// The last position of each sequence: x [T, D] -> float32 [n, D].
at::Tensor last_pool(const at::Tensor& x, const at::Tensor& cu_seqlens);
/// grad [n, D] float32 -> gradient of x [T, D] in `dtype`, 0 elsewhere.
at::Tensor last_pool_backward(const at::Tensor& grad, const at::Tensor& cu_seqlens, int64_t n_positions,
                              at::ScalarType dtype);

/// x [n, D] float32 -> x / max(||x||, 1e-12) (torch.nn.functional.normalize), norms float32 [n, 1].
struct Normalized {
  at::Tensor y;
  at::Tensor norms;
};
Normalized normalize_rows(const at::Tensor& x);
/// (g - y (y . g)) / ||x||.
at::Tensor normalize_rows_backward(const at::Tensor& grad, const Normalized& forward);

}  // namespace vixen
