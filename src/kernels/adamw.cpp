// Dispatch of the AdamW update. The fused form is ATen's own, which has one for every device.
#include "kernels/adamw.hpp"

#include <ATen/ATen.h>

#include "kernels/choice.hpp"
#include "kernels/reference.hpp"

namespace vixen {

void adamw_update(at::Tensor value, const at::Tensor& gradient, at::Tensor mean, at::Tensor square,
                  const AdamwRate& rate, const at::Tensor& step_tensor, int64_t step, const at::Tensor& grad_scale) {
  if (kernel_choice(KernelFamily::kAdamw) == KernelChoice::kReference)
    return reference::adamw_update(value, grad_scale.defined() ? gradient * grad_scale : gradient, mean, square, rate,
                                   step);
  // The fused kernel divides gradients by its scale.
  std::optional<at::Tensor> divisor;
  if (grad_scale.defined()) divisor = grad_scale.reciprocal();
  at::_fused_adamw_({value}, {gradient}, {mean}, {square}, {}, {step_tensor}, rate.lr, rate.beta1, rate.beta2,
                    rate.weight_decay, rate.eps, /*amsgrad=*/false, /*maximize=*/false, divisor, {});
}

}  // namespace vixen
