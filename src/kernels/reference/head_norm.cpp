// The norm of query and key heads in plain ATen.
//   qkv [T, (H + 2 Hkv) d]; statistics float32 [T, H + Hkv].
#include "kernels/reference.hpp"

namespace vixen::reference {
namespace {

/// The q and k heads of x as float32 [T, H + Hkv, d].
at::Tensor normed_heads(const at::Tensor& x, const AttentionShape& shape) {
  const int64_t normed = shape.heads + shape.key_value_heads(), d = shape.head_dim(x.size(1));
  return x.narrow(1, 0, normed * d).to(at::kFloat).view({x.size(0), normed, d});
}

/// [H + Hkv, d]: the weight of each head.
at::Tensor head_weights(const at::Tensor& q_weight, const at::Tensor& k_weight, const AttentionShape& shape) {
  const int64_t kv_heads = shape.key_value_heads(), d = q_weight.size(0);
  return at::cat({q_weight.expand({shape.heads, d}), k_weight.expand({kv_heads, d})});
}

/// normed [T, H + Hkv, d] rounded to the dtype of `like`, then the v columns of `like`.
at::Tensor join(const at::Tensor& normed, const at::Tensor& like) {
  const int64_t width = normed.size(1) * normed.size(2);
  return at::cat({normed.view({-1, width}).to(like.scalar_type()), like.narrow(1, width, like.size(1) - width)}, 1);
}

}  // namespace

HeadNormResult head_norm(const at::Tensor& qkv, const at::Tensor& q_weight, const at::Tensor& k_weight, double eps,
                         const AttentionShape& shape) {
  const at::Tensor heads = normed_heads(qkv, shape);
  const at::Tensor rstd = (heads.square().mean(2) + eps).rsqrt();
  return {join(heads * rstd.unsqueeze(2) * head_weights(q_weight, k_weight, shape), qkv), rstd};
}

at::Tensor head_norm_backward(const at::Tensor& grad, const at::Tensor& qkv, const at::Tensor& rstd,
                              const at::Tensor& q_weight, const at::Tensor& k_weight, const AttentionShape& shape,
                              at::Tensor grad_q_weight, at::Tensor grad_k_weight) {
  const int64_t kv_heads = shape.key_value_heads();
  const at::Tensor inverse = rstd.unsqueeze(2), normal = normed_heads(qkv, shape) * inverse;
  const at::Tensor grads = normed_heads(grad, shape);
  if (grad_q_weight.defined() || grad_k_weight.defined()) {
    const at::Tensor of_heads = (grads * normal).sum(0);  // [H + Hkv, d]
    if (grad_q_weight.defined()) grad_q_weight.add_(of_heads.narrow(0, 0, shape.heads).sum(0));
    if (grad_k_weight.defined()) grad_k_weight.add_(of_heads.narrow(0, shape.heads, kv_heads).sum(0));
  }
  const at::Tensor weighted = grads * head_weights(q_weight, k_weight, shape);
  return join((weighted - normal * (weighted * normal).mean(2, /*keepdim=*/true)) * inverse, grad);
}

}  // namespace vixen::reference
