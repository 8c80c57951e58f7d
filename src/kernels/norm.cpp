// Checks and dispatch of layer norm fused with dropout and residual.
#include "kernels/norm.hpp"

#include "base/check.hpp"
#include "kernels/cuda_forms.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

void check_rows(const at::Tensor& x, const at::Tensor& weight, const TokenKeys& keys, const Dropout& dropout) {
  VIXEN_CHECK(x.dim() == 2 && weight.dim() == 1 && x.size(1) == weight.size(0), "x [{}, {}] with {} weights", x.size(0),
              x.size(-1), weight.numel());
  VIXEN_CHECK(!dropout.active() || (keys.sequence.defined() && keys.sequence.size(0) == x.size(0)),
              "dropout over {} rows needs as many token keys", x.size(0));
}

FusedKernel<NormForwardArgs> forward_kernel(const at::Tensor& x) {
  return fused_kernel(kernel::norm_forward, x, x.is_cpu() || norm_fits(x.scalar_type(), x.size(1)));
}
FusedKernel<NormBackwardArgs> backward_kernel(const at::Tensor& grad) {
  return fused_kernel(kernel::norm_backward, grad,
                      grad.is_cpu() || norm_backward_fits(grad.scalar_type(), grad.size(1)));
}

NormResult fused_forward(const FusedKernel<NormForwardArgs>& kernel, const at::Tensor& x, const at::Tensor& residual,
                         const at::Tensor& weight, const at::Tensor& bias, double eps, const TokenKeys& keys,
                         const Dropout& dropout, bool dropout_after) {
  const at::Tensor input = x.contiguous(), other = contiguous_or_none(residual);
  VIXEN_CHECK(!other.defined() || (other.sizes() == x.sizes() && other.scalar_type() == x.scalar_type()),
              "the residual differs from x in shape or dtype");
  const bool own_sum = other.defined() || (dropout.active() && !dropout_after);
  NormResult result{at::empty_like(input), own_sum ? at::empty_like(input) : input,
                    at::empty({x.size(0), 2}, x.options().dtype(at::kFloat))};
  const NormForwardArgs args{.storage = storage_of(x.scalar_type()),
                             .width = x.size(1),
                             .eps = static_cast<float>(eps),
                             .x = input.const_data_ptr(),
                             .residual = data_or_null(other),
                             .weight = floats_of(weight),
                             .bias = floats_of(bias),
                             .sum = own_sum ? result.sum.mutable_data_ptr() : nullptr,
                             .y = result.y.mutable_data_ptr(),
                             .stats = result.stats.data_ptr<float>(),
                             .keys = row_keys(keys, dropout),
                             .dropout = dropout_key(dropout),
                             .dropout_after = dropout_after};
  kernel.run(args, x.size(0), 16);
  return result;
}

NormGradient fused_backward(const FusedKernel<NormBackwardArgs>& kernel, const at::Tensor& grad_y,
                            const NormResult& forward, const at::Tensor& weight, const TokenKeys& keys,
                            const Dropout& dropout, at::Tensor& grad_weight, at::Tensor& grad_bias,
                            bool dropout_after) {
  const at::Tensor grad = grad_y.contiguous(), sum = forward.sum.contiguous();
  VIXEN_CHECK(grad.sizes() == sum.sizes() && grad.scalar_type() == sum.scalar_type(),
              "the gradient differs from the normalised sum in shape or dtype");
  const int64_t rows = grad.size(0), width = grad.size(1), chunks = chunk_count(rows, grad.device());
  NormGradient result;
  result.residual = at::empty_like(grad);
  result.x = dropout.active() && !dropout_after ? at::empty_like(grad) : result.residual;
  const at::Tensor partials = at::empty({chunks, 2, width}, grad.options().dtype(at::kFloat));
  const NormBackwardArgs args{.storage = storage_of(grad.scalar_type()),
                              .width = width,
                              .rows = rows,
                              .rows_per_chunk = rows_per_chunk(rows, grad.device()),
                              .grad_y = grad.const_data_ptr(),
                              .sum = sum.const_data_ptr(),
                              .stats = forward.stats.const_data_ptr<float>(),
                              .weight = floats_of(weight),
                              .grad_sum = result.residual.mutable_data_ptr(),
                              .grad_x = result.x.is_same(result.residual) ? nullptr : result.x.mutable_data_ptr(),
                              .partials = partials.data_ptr<float>(),
                              .keys = row_keys(keys, dropout),
                              .dropout = dropout_key(dropout),
                              .dropout_after = dropout_after};
  kernel.run(args, chunks, 1);
  add_in_order(partials.view({chunks, 2 * width}), {grad_weight, grad_bias});
  return result;
}

}  // namespace

NormResult dropout_add_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                            const at::Tensor& bias, double eps, const TokenKeys& keys, const Dropout& dropout) {
  check_rows(x, weight, keys, dropout);
  if (const auto kernel = forward_kernel(x))
    return fused_forward(kernel, x, residual, weight, bias, eps, keys, dropout, false);
  return reference::dropout_add_norm(x, residual, weight, bias, eps, keys, dropout);
}

NormGradient dropout_add_norm_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                       const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                       at::Tensor grad_bias) {
  check_rows(grad_y, weight, keys, dropout);
  if (const auto kernel = backward_kernel(grad_y))
    return fused_backward(kernel, grad_y, forward, weight, keys, dropout, grad_weight, grad_bias, false);
  return reference::dropout_add_norm_backward(grad_y, forward, weight, keys, dropout, grad_weight, grad_bias);
}

NormResult norm_dropout(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                        const TokenKeys& keys, const Dropout& dropout) {
  check_rows(x, weight, keys, dropout);
  if (const auto kernel = forward_kernel(x))
    return fused_forward(kernel, x, {}, weight, bias, eps, keys, dropout, true);
  return reference::norm_dropout(x, weight, bias, eps, keys, dropout);
}

at::Tensor norm_dropout_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                 const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                 at::Tensor grad_bias) {
  check_rows(grad_y, weight, keys, dropout);
  if (const auto kernel = backward_kernel(grad_y))
    return fused_backward(kernel, grad_y, forward, weight, keys, dropout, grad_weight, grad_bias, true).residual;
  return reference::norm_dropout_backward(grad_y, forward, weight, keys, dropout, grad_weight, grad_bias);
}

}  // namespace vixen
