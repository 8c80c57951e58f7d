// AdamW in plain ATen, in the order of operations of torch.optim.AdamW.
//   value, gradient, mean, square float32 [n].
#include <ATen/ATen.h>

#include <cmath>

#include "kernels/reference.hpp"

namespace vixen::reference {

void adamw_update(at::Tensor value, const at::Tensor& gradient, at::Tensor mean, at::Tensor square,
                  const AdamwRate& rate, int64_t step) {
  value.mul_(1 - rate.lr * rate.weight_decay);
  mean.lerp_(gradient, 1 - rate.beta1);
  square.mul_(rate.beta2).addcmul_(gradient, gradient, 1 - rate.beta2);
  const double correction1 = 1 - std::pow(rate.beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(rate.beta2, static_cast<double>(step));
  const auto denominator = (square.sqrt() / std::sqrt(correction2)).add_(rate.eps);
  value.addcdiv_(mean, denominator, -rate.lr / correction1);
}

}  // namespace vixen::reference
