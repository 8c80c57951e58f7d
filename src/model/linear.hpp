// Linear layers on stored parameters: y = x W^T + b and its gradients, straight into the flat gradient buffer.
//   x [T, I] and y [T, O] in the store's compute dtype; W [O, I], b [O].
#pragma once

#include <ATen/core/Tensor.h>

#include "model/parameters.hpp"

namespace vixen {

/// x W^T + b.
at::Tensor linear(const ParameterStore& store, const at::Tensor& x, int weight, int bias);

/// Adds grad_y^T x to the weight's gradient and the sum over rows to the bias's; no gradient of x.
void linear_backward_parameters(ParameterStore& store, const at::Tensor& grad_y, const at::Tensor& x, int weight,
                                int bias);

/// linear_backward_parameters, and returns the gradient of x, grad_y W.
at::Tensor linear_backward(ParameterStore& store, const at::Tensor& grad_y, const at::Tensor& x, int weight, int bias);

/// The same, adding the gradient of x to grad_x [T, I] in place (the gradient that comes along the residual).
void linear_backward_into(ParameterStore& store, const at::Tensor& grad_y, const at::Tensor& x, int weight, int bias,
                          at::Tensor& grad_x);

}  // namespace vixen
