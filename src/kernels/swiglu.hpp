// SwiGLU: silu(gate) * up, the activation of decoders' feed-forward blocks. Arithmetic is float32.
//   T positions, F feed-forward width; float32 or bfloat16
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

/// gate_up [T, 2F]: gate | up -> [T, F].
at::Tensor swiglu(const at::Tensor& gate_up);
/// grad [T, F] -> gradient of gate_up [T, 2F].
at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up);
/// The same, and grad becomes swiglu(gate_up), to the bit, from the same pass over gate_up; fused, in its own memory,
/// so that it must be contiguous.
at::Tensor swiglu_backward_again(at::Tensor& grad, const at::Tensor& gate_up);

}  // namespace vixen
