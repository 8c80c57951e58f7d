// One update of AdamW (Loshchilov and Hutter, 2019) in place: torch's fused kernel, or the readable reference.
//   All tensors float32 of one length n, on one device.
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

struct AdamwRate {
  double lr = 0;
  double weight_decay = 0;  // decoupled: value *= 1 - lr * weight_decay
  double beta1 = 0, beta2 = 0, eps = 0;
};

/// value, mean and square [n] after the gradient [n] of update `step`, counted from 1, which the float32 scalar
/// step_tensor holds too, on the device of the values. grad_scale: a scalar that the gradient is multiplied with, or
/// undefined.
void adamw_update(at::Tensor value, const at::Tensor& gradient, at::Tensor mean, at::Tensor square,
                  const AdamwRate& rate, const at::Tensor& step_tensor, int64_t step, const at::Tensor& grad_scale);

}  // namespace vixen
