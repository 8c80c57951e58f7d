// GELU of a linear's output, exact (erf) form, and the sum over rows that gives a bias gradient.
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

/// x [T, F] float32 or bfloat16 -> gelu(x), same dtype. Fused, vectorised on CPU; at::gelu elsewhere.
at::Tensor gelu(const at::Tensor& x);
/// grad_y * gelu'(x).
at::Tensor gelu_backward(const at::Tensor& grad_y, const at::Tensor& x);
/// grad_bias (float32 [F]) += sum over rows of grad [T, F], in a fixed order.
void accumulate_bias_gradient(const at::Tensor& grad, at::Tensor grad_bias);

}  // namespace vixen
