// Self-attention over packed sequences (no padding), bidirectional or causal, with grouped queries.
//   T positions, n sequences, H heads of d columns, Hkv key-value heads (H a multiple); computed in float32, stored in
//   the input's dtype (float32 or bfloat16).
// CPU: one fused kernel over (sequence, key-value head), probabilities recomputed in the backward. CUDA: varlen flash
// attention (bf16) or the reference. Reference: per sequence of equal length, batched matrix products over ATen.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dropout.hpp"

namespace vixen {

struct AttentionShape {
  int64_t heads = 0;
  int64_t max_seqlen = 0;
  int64_t kv_heads = 0;  // heads h H/Hkv .. (h+1) H/Hkv - 1 share key-value head h; 0: as many as heads
  bool causal = false;   // a position sees itself and the ones before it in its sequence

  int64_t key_value_heads() const { return kv_heads == 0 ? heads : kv_heads; }
  /// d, from the width of a row q | k | v.
  int64_t head_dim(int64_t qkv_width) const { return qkv_width / (heads + 2 * key_value_heads()); }
};

struct AttentionResult {
  at::Tensor context;  // [T, H d], the input's dtype
  at::Tensor lse;      // float32 [H, T]: log-sum-exp of each row's scaled scores, for the backward
};

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
