// Self-attention over packed sequences (no padding), bidirectional.
//   T positions, n sequences, H heads, d = D / H; computed in float32, stored in the input's dtype (float32 or
//   bfloat16).
// CPU: one fused kernel over (sequence, head), probabilities recomputed in the backward. CUDA: varlen flash attention
// (bf16) or the reference. Reference: per sequence of equal length, batched matrix products over ATen.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dropout.hpp"

namespace vixen {

struct AttentionShape {
  int64_t heads = 0;
  int64_t max_seqlen = 0;
};

struct AttentionResult {
  at::Tensor context;  // [T, D], the input's dtype
  at::Tensor lse;      // float32 [H, T]: log-sum-exp of each row's scaled scores, for the backward
};

/// qkv [T, 3D]: q | k | v, each head-major. softmax(q k^T / sqrt(d)) with dropout on the probabilities, times v.
/// cu_seqlens int32 [n+1], sequence_keys int64 [n]; same device.
AttentionResult packed_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                                 const AttentionShape& shape, const Dropout& dropout);

/// grad_context [T, D] -> grad_qkv [T, 3D].
at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                     const at::Tensor& sequence_keys, const AttentionShape& shape,
                                     const Dropout& dropout);

}  // namespace vixen
