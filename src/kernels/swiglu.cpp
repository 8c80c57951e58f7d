// Checks and dispatch of SwiGLU.
#include "kernels/swiglu.hpp"

#include "base/check.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

/// Rows that are worth a thread: 4096 elements or more.
int64_t grain(int64_t width) {
  return std::max<int64_t>(1, 4096 / std::max<int64_t>(1, width));
}

void check_gradient(const at::Tensor& grad, const at::Tensor& gate_up) {
  VIXEN_CHECK(
      grad.dim() == 2 && gate_up.dim() == 2 && grad.size(0) == gate_up.size(0) && 2 * grad.size(1) == gate_up.size(1),
      "gradient [{}, {}] for gate_up [{}, {}]", grad.size(0), grad.size(-1), gate_up.size(0), gate_up.size(-1));
}

FusedKernel<SwigluArgs> backward_kernel(const at::Tensor& grad, const at::Tensor& gate_up) {
  return fused_kernel(kernel::swiglu_backward, gate_up, /*fits=*/grad.scalar_type() == gate_up.scalar_type());
}

/// activation: null, or the place of grad, of which each number is read before it is written over.
at::Tensor run_backward(const FusedKernel<SwigluArgs>& kernel, const at::Tensor& grad, const at::Tensor& gate_up,
                        void* activation) {
  const at::Tensor input = gate_up.contiguous();
  at::Tensor out = at::empty_like(input);
  const SwigluArgs args{.storage = storage_of(input.scalar_type()),
                        .width = grad.size(1),
                        .gate_up = input.const_data_ptr(),
                        .grad = grad.const_data_ptr(),
                        .out = out.mutable_data_ptr(),
                        .activation = activation};
  kernel.run(args, input.size(0), grain(grad.size(1)));
  return out;
}

}  // namespace

at::Tensor swiglu(const at::Tensor& gate_up) {
  VIXEN_CHECK(gate_up.dim() == 2 && gate_up.size(1) % 2 == 0, "gate_up [{}, {}] has no two halves", gate_up.size(0),
              gate_up.size(-1));
  const auto kernel = fused_kernel(kernel::swiglu, gate_up);
  if (!kernel) return reference::swiglu(gate_up);
  const at::Tensor input = gate_up.contiguous();
  const int64_t width = input.size(1) / 2;
  at::Tensor out = at::empty({input.size(0), width}, input.options());
  const SwigluArgs args{.storage = storage_of(input.scalar_type()),
                        .width = width,
                        .gate_up = input.const_data_ptr(),
                        .grad = nullptr,
                        .out = out.mutable_data_ptr(),
                        .activation = nullptr};
  kernel.run(args, input.size(0), grain(width));
  return out;
}

at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up) {
  check_gradient(grad, gate_up);
  const auto kernel = backward_kernel(grad, gate_up);
  return kernel ? run_backward(kernel, grad.contiguous(), gate_up, nullptr) : reference::swiglu_backward(grad, gate_up);
}

at::Tensor swiglu_backward_again(at::Tensor& grad, const at::Tensor& gate_up) {
  check_gradient(grad, gate_up);
  VIXEN_CHECK(grad.is_contiguous(), "the activation takes the place of a gradient that is not contiguous");
  if (const auto kernel = backward_kernel(grad, gate_up))
    return run_backward(kernel, grad, gate_up, grad.mutable_data_ptr());
  at::Tensor out = reference::swiglu_backward(grad, gate_up);
  grad = reference::swiglu(gate_up);
  return out;
}

}  // namespace vixen
