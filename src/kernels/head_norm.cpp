// Checks and dispatch of the norm of query and key heads.
#include "base/check.hpp"
#include "kernels/fused.hpp"
#include "kernels/reference.hpp"
#include "kernels/rope.hpp"

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

const float* weights(const at::Tensor& weight) {
  VIXEN_CHECK(weight.scalar_type() == at::kFloat && weight.is_contiguous(), "norm weights must be contiguous float32");
  return weight.const_data_ptr<float>();
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
  args.q_weight = weights(q_weight);
  args.k_weight = weights(k_weight);
  args.out = out.mutable_data_ptr();
  return args;
}

bool fused(const at::Tensor& qkv) {
  return use_fused(qkv, kernel_choices().norm, "kernels.norm");
}

}  // namespace

HeadNormResult head_norm(const at::Tensor& qkv, const at::Tensor& q_weight, const at::Tensor& k_weight, double eps,
                         const AttentionShape& shape) {
  check(qkv, q_weight, k_weight, shape);
  if (!fused(qkv)) return reference::head_norm(qkv, q_weight, k_weight, eps, shape);
  const at::Tensor input = qkv.contiguous();
  HeadNormResult result{at::empty_like(input), at::empty({qkv.size(0), shape.heads + shape.key_value_heads()},
                                                         qkv.options().dtype(at::kFloat))};
  HeadNormArgs args = arguments(input, result.rstd, q_weight, k_weight, shape, result.qkv);
  args.eps = static_cast<float>(eps);
  run_ranges(cpu_kernels().head_norm, args, qkv.size(0), 16);
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
  if (!fused(qkv))
    return reference::head_norm_backward(grad, qkv, rstd, q_weight, k_weight, shape, grad_q_weight, grad_k_weight);
  const at::Tensor input = qkv.contiguous(), grads = grad.contiguous(), statistics = rstd.contiguous();
  const int64_t rows = qkv.size(0), d = shape.head_dim(qkv.size(1)), chunks = chunk_count(rows);
  at::Tensor result = at::empty_like(input), partials;
  if (grad_q_weight.defined() || grad_k_weight.defined())
    partials = at::empty({chunks, 2, d}, qkv.options().dtype(at::kFloat));
  HeadNormArgs args = arguments(input, statistics, q_weight, k_weight, shape, result);
  args.rows = rows;
  args.rows_per_chunk = rows_per_chunk(rows);
  args.grad = grads.const_data_ptr();
  args.partials = partials.defined() ? partials.data_ptr<float>() : nullptr;
  run_ranges(cpu_kernels().head_norm_backward, args, chunks, 1);
  if (grad_q_weight.defined()) add_in_order(partials.select(1, 0).contiguous(), {grad_q_weight});
  if (grad_k_weight.defined()) add_in_order(partials.select(1, 1).contiguous(), {grad_k_weight});
  return result;
}

}  // namespace vixen
