// Checks and dispatch of the root-mean-square norm.
#include "kernels/rms_norm.hpp"

#include "base/check.hpp"
#include "kernels/cuda_forms.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

void check_rows(const at::Tensor& x, const at::Tensor& weight) {
  VIXEN_CHECK(x.dim() == 2 && weight.dim() == 1 && x.size(1) == weight.size(0), "x [{}, {}] with {} weights", x.size(0),
              x.size(-1), weight.numel());
}

void check_like(const at::Tensor& other, const at::Tensor& x, const char* name) {
  VIXEN_CHECK(!other.defined() || (other.sizes() == x.sizes() && other.scalar_type() == x.scalar_type()),
              "{} is {} of {} elements, x {} of {}", name, c10::toString(other.scalar_type()), other.numel(),
              c10::toString(x.scalar_type()), x.numel());
}

/// Of both forwards alike: the second must meet the first to the bit.
bool forward_fits(const at::Tensor& x) {
  return x.is_cpu() || norm_fits(x.scalar_type(), x.size(1));
}

}  // namespace

RmsNormResult add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) {
  check_rows(x, weight);
  check_like(residual, x, "the residual");
  const auto kernel = fused_kernel(kernel::rms_forward, x, forward_fits(x));
  if (!kernel) return reference::add_rms_norm(x, residual, weight, eps);
  const at::Tensor input = x.contiguous(), other = contiguous_or_none(residual);
  RmsNormResult result{at::empty_like(input), other.defined() ? at::empty_like(input) : input,
                       at::empty({x.size(0)}, x.options().dtype(at::kFloat))};
  const RmsForwardArgs args{.storage = storage_of(x.scalar_type()),
                            .width = x.size(1),
                            .eps = static_cast<float>(eps),
                            .x = input.const_data_ptr(),
                            .residual = data_or_null(other),
                            .weight = floats_of(weight),
                            .sum = other.defined() ? result.sum.mutable_data_ptr() : nullptr,
                            .y = result.y.mutable_data_ptr(),
                            .rstd = result.rstd.data_ptr<float>()};
  kernel.run(args, x.size(0), 16);
  return result;
}

at::Tensor rms_norm_again(const at::Tensor& sum, const at::Tensor& rstd, const at::Tensor& weight) {
  check_rows(sum, weight);
  VIXEN_CHECK(rstd.dim() == 1 && rstd.size(0) == sum.size(0), "{} rows with {} statistics", sum.size(0), rstd.numel());
  const auto kernel = fused_kernel(kernel::rms_again, sum, forward_fits(sum));
  if (!kernel) return reference::rms_norm_again(sum, rstd, weight);
  const at::Tensor input = sum.contiguous(), statistics = rstd.contiguous();
  at::Tensor y = at::empty_like(input);
  const RmsForwardArgs args{.storage = storage_of(sum.scalar_type()),
                            .width = sum.size(1),
                            .eps = 0,  // is in the statistics
                            .x = input.const_data_ptr(),
                            .residual = nullptr,
                            .weight = floats_of(weight),
                            .sum = nullptr,
                            .y = y.mutable_data_ptr(),
                            .rstd = statistics.data_ptr<float>()};
  kernel.run(args, sum.size(0), 16);
  return y;
}

at::Tensor add_rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& grad_sum, const at::Tensor& sum,
                                 const at::Tensor& rstd, const at::Tensor& weight, at::Tensor grad_weight) {
  check_rows(sum, weight);
  check_like(grad_y, sum, "the gradient");
  check_like(grad_sum, sum, "the gradient along the residual");
  VIXEN_CHECK(rstd.dim() == 1 && rstd.size(0) == sum.size(0), "{} rows with {} statistics", sum.size(0), rstd.numel());
  const bool fits = sum.is_cpu() || rms_backward_fits(sum.scalar_type(), sum.size(1));
  const auto kernel = fused_kernel(kernel::rms_backward, sum, fits);
  if (!kernel) return reference::add_rms_norm_backward(grad_y, grad_sum, sum, rstd, weight, grad_weight);
  const at::Tensor grad = grad_y.contiguous(), input = sum.contiguous(), statistics = rstd.contiguous();
  const at::Tensor along = contiguous_or_none(grad_sum);
  const int64_t rows = sum.size(0), width = sum.size(1), chunks = chunk_count(rows, sum.device());
  at::Tensor result = at::empty_like(input), partials;
  if (grad_weight.defined()) partials = at::empty({chunks, width}, grad.options().dtype(at::kFloat));
  const RmsBackwardArgs args{.storage = storage_of(sum.scalar_type()),
                             .width = width,
                             .rows = rows,
                             .rows_per_chunk = rows_per_chunk(rows, sum.device()),
                             .grad_y = grad.const_data_ptr(),
                             .grad_along = data_or_null(along),
                             .sum = input.const_data_ptr(),
                             .rstd = statistics.const_data_ptr<float>(),
                             .weight = floats_of(weight),
                             .grad_sum = result.mutable_data_ptr(),
                             .partials = partials.defined() ? partials.data_ptr<float>() : nullptr};
  kernel.run(args, chunks, 1);
  if (partials.defined()) add_in_order(partials, {grad_weight});
  return result;
}

}  // namespace vixen
