// Root-mean-square norm in plain ATen. The sum is normalised as stored, after rounding to its dtype, so that the
// backward meets the same numbers; rounding to the dtype comes once, after the weight.
//   x, residual, y [T, D]; rstd float32 [T]: 1 / sqrt(mean of squares + eps).
#include "kernels/reference.hpp"

namespace vixen::reference {

RmsNormResult add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) {
  const at::Tensor sum =
      residual.defined() ? (x.to(at::kFloat) + residual.to(at::kFloat)).to(x.scalar_type()) : x.contiguous();
  const at::Tensor rstd = (sum.to(at::kFloat).square().mean(1) + eps).rsqrt();
  return {reference::rms_norm_again(sum, rstd, weight), sum, rstd};
}

at::Tensor rms_norm_again(const at::Tensor& sum, const at::Tensor& rstd, const at::Tensor& weight) {
  return (sum.to(at::kFloat) * rstd.unsqueeze(1) * weight).to(sum.scalar_type());
}

at::Tensor add_rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& grad_sum, const at::Tensor& sum,
                                 const at::Tensor& rstd, const at::Tensor& weight, at::Tensor grad_weight) {
  const at::Tensor inverse = rstd.unsqueeze(1), normal = sum.to(at::kFloat) * inverse;
  const at::Tensor grad = grad_y.to(at::kFloat);
  if (grad_weight.defined()) grad_weight.add_((grad * normal).sum(0));
  const at::Tensor weighted = grad * weight;
  at::Tensor result = (weighted - normal * (weighted * normal).mean(1, /*keepdim=*/true)) * inverse;
  if (grad_sum.defined()) result = result + grad_sum.to(at::kFloat);
  return result.to(sum.scalar_type());
}

}  // namespace vixen::reference
