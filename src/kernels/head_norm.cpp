// Checks and dispatch of the norm of query and key heads.
#include "kernels/head_norm.hpp"

#include "base/check.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

void check(const at::Tensor& qkv, const at::Tensor& q_weight, const at::Tensor& k_weight, const AttentionShape& shape) {
  const int64_t all = shape.heads + 2 * shape.key_value_heads();
  VIXEN_CHECK(qkv.dim() == 2 && shape.heads > 0 && qkv.size(1) % all == 0, "qkv [{}, {}] does not split into {} heads",
              qkv.size(0), qkv.size(-1), all);
  const int64_t d = shape.head_dim(qkv.size(1));
  VIXEN_CHECK(q_weight.numel() == d && k_weight.numel() == d, "{} and {} norm weights for heads of {}",
              q_weight.numel(), k_weight.numel(), d);
}

/// What forward and backward share; `qkv` is contiguous.
HeadNormArgs arguments(const at::Tensor& qkv, const at::Tensor& rstd, const at::Tensor& q_weight,
                       const at::Tensor& k_weight, const AttentionShape& shape, at::Tensor& out) {
  HeadNormArgs args{};
  args.storage = storage_of(qkv.scalar_type());
  args.heads = shape.heads;
  args.kv_heads = shape.key_value_heads();
  args.head_dim = shape.head_dim(qkv.size(1));
  args.x = qkv.const_data_ptr();
  args.rstd = rstd.data_ptr<float>();
  args.q_weight = floats_of(q_weight);
  args.k_weight = floats_of(k_weight);
  args.out = out.mutable_data_ptr();
  return args;
}

}  // namespace

HeadNormResult head_norm(const at::Tensor& qkv, const at::Tensor& q_weight, const at::Tensor& k_weight, double eps,
                         const AttentionShape& shape) {
  check(qkv, q_weight, k_weight, shape);
  const auto kernel = fused_kernel(kernel::head_norm, qkv);
  if (!kernel) return reference::head_norm(qkv, q_weight, k_weight, eps, shape);
  const at::Tensor input = qkv.contiguous();
  HeadNormResult result{at::empty_like(input), at::empty({qkv.size(0), shape.heads + shape.key_value_heads()},
                                                         qkv.options().dtype(at::kFloat))};
  HeadNormArgs args = arguments(input, result.rstd, q_weight, k_weight, shape, result.qkv);
  args.eps = static_cast<float>(eps);
  kernel.run(args, qkv.size(0), 16);
  return result;
}

at::Tensor head_norm_backward(const at::Tensor& grad, const at::Tensor& qkv, const at::Tensor& rstd,
                              const at::Tensor& q_weight, const at::Tensor& k_weight, const AttentionShape& shape,
                              at::Tensor grad_q_weight, at::Tensor grad_k_weight) {
  check(qkv, q_weight, k_weight, shape);
  VIXEN_CHECK(grad.sizes() == qkv.sizes() && grad.scalar_type() == qkv.scalar_type(),
              "the gradient differs from qkv in shape or dtype");
  VIXEN_CHECK(rstd.numel() == qkv.size(0) * (shape.heads + shape.key_value_heads()), "{} statistics for {} rows",
              rstd.numel(), qkv.size(0));
  const auto kernel = fused_kernel(kernel::head_norm_backward, qkv);
  if (!kernel)
    return reference::head_norm_backward(grad, qkv, rstd, q_weight, k_weight, shape, grad_q_weight, grad_k_weight);
  const at::Tensor input = qkv.contiguous(), grads = grad.contiguous(), statistics = rstd.contiguous();
  const int64_t rows = qkv.size(0), d = shape.head_dim(qkv.size(1)), chunks = chunk_count(rows, qkv.device());
  at::Tensor result = at::empty_like(input), partials;
  if (grad_q_weight.defined() || grad_k_weight.defined())
    partials = at::empty({chunks, 2, d}, qkv.options().dtype(at::kFloat));
  HeadNormArgs args = arguments(input, statistics, q_weight, k_weight, shape, result);
  args.rows = rows;
  args.rows_per_chunk = rows_per_chunk(rows, qkv.device());
  args.grad = grads.const_data_ptr();
  args.partials = partials.defined() ? partials.data_ptr<float>() : nullptr;
  kernel.run(args, chunks, 1);
  if (grad_q_weight.defined()) add_in_order(partials.select(1, 0).contiguous(), {grad_q_weight});
  if (grad_k_weight.defined()) add_in_order(partials.select(1, 1).contiguous(), {grad_k_weight});
  return result;
}

}  // namespace vixen
