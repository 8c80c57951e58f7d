// Dispatch of mean pooling, and row normalisation.
#include "kernels/pooling.hpp"

#include "base/check.hpp"
#include "kernels/reference.hpp"

namespace vixen {

at::Tensor mean_pool(const at::Tensor& x, const at::Tensor& cu_seqlens) {
  VIXEN_CHECK(x.dim() == 2 && cu_seqlens.dim() == 1 && cu_seqlens.size(0) >= 1, "x has {} dimensions, {} offsets",
              x.dim(), cu_seqlens.numel());
  return reference::mean_pool(x, cu_seqlens);
}

at::Tensor mean_pool_backward(const at::Tensor& grad, const at::Tensor& cu_seqlens, int64_t n_positions,
                              at::ScalarType dtype) {
  VIXEN_CHECK(grad.dim() == 2 && grad.size(0) + 1 == cu_seqlens.size(0), "{} gradients for {} offsets", grad.size(0),
              cu_seqlens.numel());
  return reference::mean_pool_backward(grad, cu_seqlens, n_positions, dtype);
}

Normalized normalize_rows(const at::Tensor& x) {
  const at::Tensor norms = at::linalg_vector_norm(x, 2, /*dim=*/at::IntArrayRef{1}, /*keepdim=*/true).clamp_min(1e-12);
  return {x / norms, norms};
}

at::Tensor normalize_rows_backward(const at::Tensor& grad, const Normalized& forward) {
  const at::Tensor along = (forward.y * grad).sum(1, /*keepdim=*/true);
  return (grad - forward.y * along) / forward.norms;
}

}  // namespace vixen
