// SwiGLU in plain ATen.
//   gate_up [T, 2F]: gate | up; grad [T, F].
#include "kernels/reference.hpp"

namespace vixen::reference {

at::Tensor swiglu(const at::Tensor& gate_up) {
  const std::vector<at::Tensor> parts = gate_up.to(at::kFloat).chunk(2, 1);
  return (at::silu(parts[0]) * parts[1]).to(gate_up.scalar_type());
}

at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up) {
  const std::vector<at::Tensor> parts = gate_up.to(at::kFloat).chunk(2, 1);
  const at::Tensor values = grad.to(at::kFloat);
  return at::cat({at::silu_backward(values * parts[1], parts[0]), values * at::silu(parts[0])}, 1)
      .to(gate_up.scalar_type());
}

}  // namespace vixen::reference
