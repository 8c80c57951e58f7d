// Dispatch of mean pooling; pooling by one position and row normalisation, which are a few rows of work on any device.
#include "kernels/pooling.hpp"

#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen {

at::Tensor mean_pool(const at::Tensor& x, const at::Tensor& cu_seqlens) {
  VIXEN_CHECK(x.dim() == 2 && cu_seqlens.dim() == 1 && cu_seqlens.size(0) >= 1, "x has {} dimensions, {} offsets",
              x.dim(), cu_seqlens.numel());
  const auto kernel = fused_kernel(kernel::mean_pool, x);
  if (!kernel) return reference::mean_pool(x, cu_seqlens);
  const at::Tensor input = x.contiguous(), offsets = cu_seqlens.contiguous();
  at::Tensor pooled = at::empty({cu_seqlens.size(0) - 1, x.size(1)}, x.options().dtype(at::kFloat));
  const PoolArgs args{.storage = storage_of(x.scalar_type()),
                      .width = x.size(1),
                      .offsets = offsets.const_data_ptr<int32_t>(),
                      .x = input.data_ptr(),
                      .pooled = pooled.data_ptr<float>()};
  kernel.run(args, pooled.size(0), 16);
  return pooled;
}

at::Tensor mean_pool_backward(const at::Tensor& grad, const at::Tensor& cu_seqlens, int64_t n_positions,
                              at::ScalarType dtype) {
  VIXEN_CHECK(grad.dim() == 2 && grad.size(0) + 1 == cu_seqlens.size(0), "{} gradients for {} offsets", grad.size(0),
              cu_seqlens.numel());
  const auto kernel = fused_kernel(kernel::mean_pool_backward, grad, /*fits=*/grad.scalar_type() == at::kFloat);
  if (!kernel) return reference::mean_pool_backward(grad, cu_seqlens, n_positions, dtype);
  const at::Tensor pooled = grad.contiguous(), offsets = cu_seqlens.contiguous();
  at::Tensor x = at::empty({n_positions, grad.size(1)}, grad.options().dtype(dtype));
  const PoolArgs args{.storage = storage_of(dtype),
                      .width = grad.size(1),
                      .offsets = offsets.const_data_ptr<int32_t>(),
                      .x = x.data_ptr(),
                      .pooled = pooled.data_ptr<float>()};
  kernel.run(args, pooled.size(0), 16);
  return x;
}

at::Tensor pick_pool(const at::Tensor& x, const at::Tensor& positions) {
  VIXEN_CHECK(x.dim() == 2 && positions.dim() == 1, "x has {} dimensions, positions {}", x.dim(), positions.dim());
  return x.index_select(0, positions).to(at::kFloat);
}

at::Tensor pick_pool_backward(const at::Tensor& grad, const at::Tensor& positions, int64_t n_positions,
                              at::ScalarType dtype) {
  VIXEN_CHECK(grad.dim() == 2 && grad.size(0) == positions.numel(), "{} gradients for {} positions", grad.size(0),
              positions.numel());
  at::Tensor x = at::zeros({n_positions, grad.size(1)}, grad.options().dtype(dtype));
  return x.index_copy_(0, positions.to(at::kLong), grad.to(dtype));
}

at::Tensor last_pool(const at::Tensor& x, const at::Tensor& cu_seqlens) {
  VIXEN_CHECK(x.dim() == 2 && cu_seqlens.dim() == 1 && cu_seqlens.size(0) >= 1, "x has {} dimensions, {} offsets",
              x.dim(), cu_seqlens.numel());
  return pick_pool(x, cu_seqlens.slice(0, 1) - 1);
}

at::Tensor last_pool_backward(const at::Tensor& grad, const at::Tensor& cu_seqlens, int64_t n_positions,
                              at::ScalarType dtype) {
  return pick_pool_backward(grad, cu_seqlens.slice(0, 1) - 1, n_positions, dtype);
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
