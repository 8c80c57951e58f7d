// Exact GELU and bias gradients by ATen's own operators.
//   x, grad [T, F]; grad_bias float32 [F].
#include "kernels/reference.hpp"

namespace vixen::reference {

at::Tensor gelu(const at::Tensor& x) {
  return at::gelu(x);
}

at::Tensor gelu_backward(const at::Tensor& grad_y, const at::Tensor& x) {
  return at::gelu_backward(grad_y, x);
}

void accumulate_bias_gradient(const at::Tensor& grad, at::Tensor grad_bias) {
  grad_bias.add_(grad.sum(0, /*keepdim=*/false, at::kFloat));
}

}  // namespace vixen::reference
