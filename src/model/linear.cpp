#include "model/linear.hpp"

#include <ATen/ATen.h>

#include "kernels/activation.hpp"

namespace vixen {

at::Tensor linear(const ParameterStore& store, const at::Tensor& x, int weight, int bias) {
  return at::addmm(store.compute(bias), x, store.compute(weight).t());
}

void linear_backward_parameters(ParameterStore& store, const at::Tensor& grad_y, const at::Tensor& x, int weight,
                                int bias) {
  at::Tensor grad_weight = store.grad(weight);
  if (store.compute_dtype() == at::kFloat)
    at::addmm_out(grad_weight, grad_weight, grad_y.t(), x);
  else
    grad_weight.add_(at::mm(grad_y.t(), x));
  accumulate_bias_gradient(grad_y, store.grad(bias));
}

at::Tensor linear_backward(ParameterStore& store, const at::Tensor& grad_y, const at::Tensor& x, int weight, int bias) {
  linear_backward_parameters(store, grad_y, x, weight, bias);
  return at::mm(grad_y, store.compute(weight));
}

void linear_backward_into(ParameterStore& store, const at::Tensor& grad_y, const at::Tensor& x, int weight, int bias,
                          at::Tensor& grad_x) {
  linear_backward_parameters(store, grad_y, x, weight, bias);
  at::addmm_out(grad_x, grad_x, grad_y, store.compute(weight));
}

}  // namespace vixen
