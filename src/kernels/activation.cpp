// Dispatch of GELU and of bias gradients.
#include "kernels/activation.hpp"

#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

// Elements: a piece of 16 KiB or more is worth a thread, and pieces start on whole vectors.
constexpr int64_t kBlock = 4096;

void run_elements(const FusedKernel<GeluArgs>& kernel, const GeluArgs& args, int64_t count) {
  const auto on_cpu = kernel.cpu();
  if (!on_cpu) return kernel.run(args, count, kBlock);
  at::parallel_for(0, (count + kBlock - 1) / kBlock, 1,
                   [&](int64_t begin, int64_t end) { on_cpu(args, begin * kBlock, std::min(count, end * kBlock)); });
}

}  // namespace

at::Tensor gelu(const at::Tensor& x) {
  const auto kernel = fused_kernel(kernel::gelu, x);
  if (!kernel) return reference::gelu(x);
  const at::Tensor input = x.contiguous();
  at::Tensor y = at::empty_like(input);
  run_elements(kernel,
               {.storage = storage_of(x.scalar_type()),
                .x = input.const_data_ptr(),
                .grad = nullptr,
                .out = y.mutable_data_ptr()},
               x.numel());
  return y;
}

at::Tensor gelu_backward(const at::Tensor& grad_y, const at::Tensor& x) {
  VIXEN_CHECK(grad_y.sizes() == x.sizes(), "gradient of {} elements for {}", grad_y.numel(), x.numel());
  const auto kernel = fused_kernel(kernel::gelu_backward, x, /*fits=*/grad_y.scalar_type() == x.scalar_type());
  if (!kernel) return reference::gelu_backward(grad_y, x);
  const at::Tensor input = x.contiguous(), grad = grad_y.contiguous();
  at::Tensor grad_x = at::empty_like(input);
  run_elements(kernel,
               {.storage = storage_of(x.scalar_type()),
                .x = input.const_data_ptr(),
                .grad = grad.const_data_ptr(),
                .out = grad_x.mutable_data_ptr()},
               x.numel());
  return grad_x;
}

void accumulate_bias_gradient(const at::Tensor& grad, at::Tensor grad_bias) {
  VIXEN_CHECK(grad.dim() == 2 && grad_bias.dim() == 1 && grad.size(1) == grad_bias.size(0),
              "gradient [{}, {}], bias [{}]", grad.size(0), grad.size(-1), grad_bias.numel());
  const auto kernel = fused_kernel(kernel::column_sums, grad,
                                   /*fits=*/grad_bias.scalar_type() == at::kFloat && grad_bias.is_contiguous());
  if (!kernel) return reference::accumulate_bias_gradient(grad, grad_bias);
  const at::Tensor input = grad.contiguous();
  const int64_t rows = grad.size(0), width = grad.size(1), chunks = chunk_count(rows, grad.device());
  const at::Tensor partials = at::empty({chunks, width}, grad_bias.options());
  const ColumnSumsArgs args{.storage = storage_of(grad.scalar_type()),
                            .width = width,
                            .rows = rows,
                            .rows_per_chunk = rows_per_chunk(rows, grad.device()),
                            .x = input.const_data_ptr(),
                            .partials = partials.data_ptr<float>()};
  kernel.run(args, chunks, 1);
  add_in_order(partials, {grad_bias});
}

}  // namespace vixen
