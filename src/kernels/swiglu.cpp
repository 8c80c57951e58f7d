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

at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up, at::Tensor* activation) {
  VIXEN_CHECK(
      grad.dim() == 2 && gate_up.dim() == 2 && grad.size(0) == gate_up.size(0) && 2 * grad.size(1) == gate_up.size(1),
      "gradient [{}, {}] for gate_up [{}, {}]", grad.size(0), grad.size(-1), gate_up.size(0), gate_up.size(-1));
  const auto kernel =
      fused_kernel(kernel::swiglu_backward, gate_up, /*fits=*/grad.scalar_type() == gate_up.scalar_type());
  if (!kernel) return reference::swiglu_backward(grad, gate_up, activation);
  const at::Tensor input = gate_up.contiguous(), grads = grad.contiguous();
  at::Tensor out = at::empty_like(input);
  if (activation) *activation = at::empty_like(grads);
  const SwigluArgs args{.storage = storage_of(input.scalar_type()),
                        .width = grad.size(1),
                        .gate_up = input.const_data_ptr(),
                        .grad = grads.const_data_ptr(),
                        .out = out.mutable_data_ptr(),
                        .activation = activation ? activation->mutable_data_ptr() : nullptr};
  kernel.run(args, input.size(0), grain(grad.size(1)));
  return out;
}

}  // namespace vixen
