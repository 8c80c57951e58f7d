// SwiGLU: silu(gate) * up, the activation of decoders' feed-forward blocks. Arithmetic is float32.
//   T positions, F feed-forward width; float32 or bfloat16
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

/// gate_up [T, 2F]: gate | up -> [T, F].
at::Tensor swiglu(const at::Tensor& gate_up);
/// grad [T, F] -> gradient of gate_up [T, 2F]. activation, unless null: becomes swiglu(gate_up) [T, F], to the bit,
/// from the same pass over gate_up.
at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up, at::Tensor* activation = nullptr);

}  // namespace vixen
