// Self-attention over packed sequences (no padding), bidirectional or causal, with grouped queries.
//   T positions, n sequences, H heads of d columns, Hkv key-value heads (H a multiple); computed in float32, stored in
//   the input's dtype (float32 or bfloat16).
// Forms: one fused kernel over (sequence, key-value head), probabilities recomputed in the backward, on CUDA for short
// sequences; varlen flash attention on CUDA; the reference, batched matrix products of ATen over sequences of equal
// length.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dropout.hpp"

namespace vixen {

struct AttentionShape {
  int64_t heads = 0;
  int64_t max_seqlen = 0;
  int64_t kv_heads = 0;  // heads h H/Hkv .. (h+1) H/Hkv - 1 share key-value head h; 0: as many as heads
  bool causal = false;   // a position sees itself and the ones before it in its sequence

  constexpr int64_t key_value_heads() const { return kv_heads == 0 ? heads : kv_heads; }
  /// d, from the width of a row q | k | v.
  int64_t head_dim(int64_t qkv_width) const { return qkv_width / (heads + 2 * key_value_heads()); }
};

struct AttentionResult {
  at::Tensor context;  // [T, H d], the input's dtype
  at::Tensor lse;      // float32 [H, T]: log-sum-exp of each row's scaled scores, for the backward
};

/// Bytes of `lse` for T positions.
constexpr int64_t attention_statistics_bytes(int64_t positions, const AttentionShape& shape) {
  return int64_t{sizeof(float)} * positions * shape.heads;
}
/// FLOPs of the forward over sequences of L positions, given the sums of L and of L^2: scores and their product with
/// the values for every pair of positions that see each other, 2 FLOPs a multiply-add. The backward is counted as twice
/// that; recomputed scores are not.
constexpr double attention_flops(int64_t positions, int64_t sum_squared_lengths, int64_t head_dim,
                                 const AttentionShape& shape) {
  const double pairs = shape.causal ? 0.5 * static_cast<double>(sum_squared_lengths + positions)
                                    : static_cast<double>(sum_squared_lengths);
  return 2 * 2 * pairs * static_cast<double>(shape.heads * head_dim);
}

enum class AttentionForm { kReference, kFused, kFlash };
/// What runs for heads of head_dim columns and sequences of at most shape.max_seqlen positions as kernels.attention
/// says; on CUDA as kernels/cuda_forms.hpp has it. UserError when a fused form is asked for and there is none.
AttentionForm attention_form(at::Device device, at::ScalarType dtype, int64_t head_dim, const AttentionShape& shape,
                             const Dropout& dropout);

/// qkv [T, (H + 2 Hkv) d]: q | k | v, each head-major. softmax(q k^T / sqrt(d)) with dropout on the probabilities,
/// times v. cu_seqlens int32 [n+1], sequence_keys int64 [n]; same device.
AttentionResult packed_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                                 const AttentionShape& shape, const Dropout& dropout);

/// grad_context [T, H d] -> grad_qkv [T, (H + 2 Hkv) d].
at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                     const at::Tensor& sequence_keys, const AttentionShape& shape,
                                     const Dropout& dropout);

}  // namespace vixen
