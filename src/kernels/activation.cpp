// Dispatch of GELU and of bias gradients.
#include "kernels/activation.hpp"

#include "base/check.hpp"
#include "kernels/reference.hpp"

namespace vixen {

at::Tensor gelu(const at::Tensor& x) {
  return reference::gelu(x);
}

at::Tensor gelu_backward(const at::Tensor& grad_y, const at::Tensor& x) {
  VIXEN_CHECK(grad_y.sizes() == x.sizes(), "gradient of {} elements for {}", grad_y.numel(), x.numel());
  return reference::gelu_backward(grad_y, x);
}

void accumulate_bias_gradient(const at::Tensor& grad, at::Tensor grad_bias) {
  VIXEN_CHECK(grad.dim() == 2 && grad_bias.dim() == 1 && grad.size(1) == grad_bias.size(0),
              "gradient [{}, {}], bias [{}]", grad.size(0), grad.size(-1), grad_bias.numel());
  reference::accumulate_bias_gradient(grad, grad_bias);
}

}  // namespace vixen
