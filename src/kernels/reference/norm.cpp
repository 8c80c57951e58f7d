// Layer norm with dropout and residual in plain ATen. The sum is normalised as stored, after rounding to its dtype, so
// that the backward meets the same numbers.
//   x, residual, y [T, D]; stats float32 [T, 2]: mean, 1 / sqrt(variance + eps).
#include "base/check.hpp"
#include "kernels/reference.hpp"

namespace vixen::reference {
namespace {

NormResult norm(const at::Tensor& sum, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  const at::Tensor values = sum.to(at::kFloat);
  const at::Tensor mean = values.mean(1, /*keepdim=*/true);
  const at::Tensor centred = values - mean;
  const at::Tensor inverse = (centred.square().mean(1, /*keepdim=*/true) + eps).rsqrt();
  return {(centred * inverse * weight + bias).to(sum.scalar_type()), sum, at::cat({mean, inverse}, 1)};
}

/// Gradient of the normalised sum, float32; grad_y float32.
at::Tensor norm_gradient(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                         at::Tensor& grad_weight, at::Tensor& grad_bias) {
  const at::Tensor mean = forward.stats.narrow(1, 0, 1), inverse = forward.stats.narrow(1, 1, 1);
  const at::Tensor normal = (forward.sum.to(at::kFloat) - mean) * inverse;
  grad_weight.add_((grad_y * normal).sum(0));
  grad_bias.add_(grad_y.sum(0));
  const at::Tensor grad = grad_y * weight;
  return (grad - grad.mean(1, true) - normal * (grad * normal).mean(1, true)) * inverse;
}

}  // namespace

NormResult dropout_add_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                            const at::Tensor& bias, double eps, const TokenKeys& keys, const Dropout& dropout) {
  if (!dropout.active() && !residual.defined()) return norm(x, weight, bias, eps);
  at::Tensor sum = x.to(at::kFloat);
  if (dropout.active()) sum = reference::apply_dropout(sum, keys, dropout);
  if (residual.defined()) sum = sum + residual;
  return norm(sum.to(x.scalar_type()), weight, bias, eps);
}

NormGradient dropout_add_norm_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                       const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                       at::Tensor grad_bias) {
  const at::Tensor grad = norm_gradient(grad_y.to(at::kFloat), forward, weight, grad_weight, grad_bias);
  const auto dtype = forward.sum.scalar_type();
  const at::Tensor grad_residual = grad.to(dtype);
  if (!dropout.active()) return {grad_residual, grad_residual};
  return {reference::apply_dropout(grad, keys, dropout).to(dtype), grad_residual};
}

NormResult norm_dropout(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                        const TokenKeys& keys, const Dropout& dropout) {
  NormResult result = norm(x, weight, bias, eps);
  if (dropout.active()) result.y = reference::apply_dropout(result.y, keys, dropout);
  return result;
}

at::Tensor norm_dropout_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                 const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                 at::Tensor grad_bias) {
  at::Tensor grad = grad_y.to(at::kFloat);
  if (dropout.active()) grad = reference::apply_dropout(grad, keys, dropout);
  return norm_gradient(grad, forward, weight, grad_weight, grad_bias).to(forward.sum.scalar_type());
}

}  // namespace vixen::reference
