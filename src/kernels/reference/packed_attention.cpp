// Attention over packed sequences in plain ATen: sequences of one length at a time, as batched matrix products.
//   G sequences of length L in a group, H heads and Hkv key-value heads of d columns.
#include "base/check.hpp"
#include "kernels/packed_sequences.hpp"
#include "kernels/reference.hpp"

#include <cmath>
#include <limits>

namespace vixen::reference {
namespace {

/// Of offsets that are fetched to the host first.
SequenceGroups groups_of(const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys) {
  return {cu_seqlens.to(at::kCPU, at::kInt), sequence_keys};
}

/// Rows of a group of x [T, heads * d] as float32 [G, heads, L, d].
at::Tensor split_heads(const at::Tensor& x, const SequenceGroup& group, int64_t heads) {
  const at::Tensor rows = x.index_select(0, group.rows).to(at::kFloat);
  return rows.view({group.count(), group.length, heads, -1}).transpose(1, 2);
}

struct Heads {
  at::Tensor q, k, v;  // float32 [G, H, L, d] each: key-value heads repeated for the query heads that share them
};

Heads split_qkv(const at::Tensor& qkv, const SequenceGroup& group, const AttentionShape& shape) {
  const int64_t heads = shape.heads, kv_heads = shape.key_value_heads(), sharing = heads / kv_heads;
  const at::Tensor all = split_heads(qkv, group, heads + 2 * kv_heads);
  const auto repeated = [&](int64_t first) {
    const at::Tensor part = all.narrow(1, first, kv_heads);
    return sharing == 1 ? part : at::repeat_interleave(part, sharing, 1);
  };
  return {all.narrow(1, 0, heads), repeated(heads), repeated(heads + kv_heads)};
}

/// Scaled scores [G, H, L, L]; -infinity where a query does not see a key.
at::Tensor scores_of(const at::Tensor& scaled_q, const at::Tensor& k, const AttentionShape& shape) {
  at::Tensor scores = at::matmul(scaled_q, k.transpose(-1, -2));
  if (!shape.causal) return scores;
  const int64_t length = scores.size(-1);
  const at::Tensor later = at::ones({length, length}, scores.options().dtype(at::kBool)).triu(1);
  return scores.masked_fill(later, -std::numeric_limits<float>::infinity());
}

/// Adds up the gradients of the repeated key-value heads: [G, H, L, d] -> [G, Hkv, L, d].
at::Tensor sum_shared(const at::Tensor& grad, const AttentionShape& shape) {
  const int64_t kv_heads = shape.key_value_heads();
  if (kv_heads == shape.heads) return grad;
  return grad.view({grad.size(0), kv_heads, shape.heads / kv_heads, grad.size(2), grad.size(3)}).sum(2);
}

/// Keep factors 0 or 1 / (1 - p), float32 [G, H, L, L]; undefined without dropout.
at::Tensor probability_mask(const SequenceGroup& group, int64_t heads, const Dropout& dropout) {
  if (!dropout.active()) return {};
  const int64_t length = group.length, blocks = (length + 7) / 8;
  const auto options = group.sequence_keys.options();
  const at::Tensor head = at::arange(heads, options).view({1, heads, 1, 1}) * (65536 / 8);
  const at::Tensor block = at::arange(blocks, options).view({1, 1, 1, blocks}) + head;
  const at::Tensor sequence = group.sequence_keys.bitwise_and(int64_t{0xffffffff}).view({-1, 1, 1, 1});
  const at::Tensor query = at::arange(length, options).view({1, 1, length, 1}) + (int64_t{dropout.site} << 16);
  const at::Tensor draws = philox_draws(block, sequence, query, dropout).flatten(-2).narrow(-1, 0, length);
  return draws.ge(static_cast<int64_t>(dropout.threshold())).to(at::kFloat) * (1.0 / (1.0 - dropout.p));
}

}  // namespace

AttentionResult packed_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                                 const AttentionShape& shape, const Dropout& dropout) {
  SequenceGroups groups = groups_of(cu_seqlens, sequence_keys);
  return reference::packed_attention(qkv, shape, dropout, groups);
}

AttentionResult packed_attention(const at::Tensor& qkv, const AttentionShape& shape, const Dropout& dropout,
                                 SequenceGroups& groups) {
  const int64_t positions = qkv.size(0), heads = shape.heads, head_dim = shape.head_dim(qkv.size(1));
  const int64_t width = heads * head_dim;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  AttentionResult result{at::zeros({positions, width}, qkv.options()),
                         at::zeros({heads, positions}, qkv.options().dtype(at::kFloat))};
  for (const SequenceGroup& group : groups.of(heads)) {
    const auto [q, k, v] = split_qkv(qkv, group, shape);
    const at::Tensor scores = scores_of(q * scale, k, shape);
    const at::Tensor lse = at::logsumexp(scores, -1);
    at::Tensor probabilities = at::exp(scores - lse.unsqueeze(-1));
    if (const at::Tensor mask = probability_mask(group, heads, dropout); mask.defined())
      probabilities = probabilities * mask;
    const at::Tensor context = at::matmul(probabilities, v);  // [G, H, L, d]
    result.context.index_copy_(0, group.rows, context.transpose(1, 2).reshape({-1, width}).to(qkv.scalar_type()));
    result.lse.index_copy_(1, group.rows, lse.transpose(0, 1).reshape({heads, -1}));
  }
  return result;
}

at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                     const at::Tensor& sequence_keys, const AttentionShape& shape,
                                     const Dropout& dropout) {
  SequenceGroups groups = groups_of(cu_seqlens, sequence_keys);
  return reference::packed_attention_backward(grad_context, qkv, forward, shape, dropout, groups);
}

at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const AttentionShape& shape,
                                     const Dropout& dropout, SequenceGroups& groups) {
  const int64_t heads = shape.heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim(qkv.size(1))));
  at::Tensor grad_qkv = at::zeros_like(qkv);
  for (const SequenceGroup& group : groups.of(heads)) {
    const auto [unscaled_q, k, v] = split_qkv(qkv, group, shape);
    const at::Tensor q = unscaled_q * scale, grad = split_heads(grad_context, group, heads);
    const at::Tensor lse =
        forward.lse.index_select(1, group.rows).view({heads, group.count(), group.length}).transpose(0, 1);
    const at::Tensor probabilities = at::exp(scores_of(q, k, shape) - lse.unsqueeze(-1));
    const at::Tensor mask = probability_mask(group, heads, dropout);
    const at::Tensor kept = mask.defined() ? probabilities * mask : probabilities;
    at::Tensor grad_probabilities = at::matmul(grad, v.transpose(-1, -2));
    if (mask.defined()) grad_probabilities = grad_probabilities * mask;
    const at::Tensor row_sum = (grad_probabilities * probabilities).sum(-1, /*keepdim=*/true);
    const at::Tensor grad_scores = probabilities * (grad_probabilities - row_sum);
    const at::Tensor grads =
        at::cat({at::matmul(grad_scores, k) * scale, sum_shared(at::matmul(grad_scores.transpose(-1, -2), q), shape),
                 sum_shared(at::matmul(kept.transpose(-1, -2), grad), shape)},
                1);  // [G, H + 2 Hkv, L, d]
    grad_qkv.index_copy_(0, group.rows, grads.transpose(1, 2).reshape({-1, qkv.size(1)}).to(qkv.scalar_type()));
  }
  return grad_qkv;
}

}  // namespace vixen::reference
