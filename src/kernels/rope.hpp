// Rotary position embeddings, and the norm of query and key heads that Qwen3 has in front of them.
//   T positions, rows q | k | v of H, Hkv, Hkv heads of d columns, float32 or bfloat16; P positions of the table
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/packed_attention.hpp"

namespace vixen {

/// Rotates the q and k heads of qkv [T, (H + 2 Hkv) d] in place by the angles of position_ids int64 [T] (< P): columns
/// i and i + d/2 of a head are one pair, as Hugging Face's rotate_half. table float32 [P, d]: cos of the d/2 angles,
/// then their sin. inverse: rotates back, which is also the gradient.
void apply_rope(at::Tensor& qkv, const at::Tensor& position_ids, const at::Tensor& table, const AttentionShape& shape,
                bool inverse);

struct HeadNormResult {
  at::Tensor qkv;   // [T, (H + 2 Hkv) d]: q and k heads normalised, v as it was
  at::Tensor rstd;  // float32 [T, H + Hkv]
};
/// RMS norm of every q head with q_weight and every k head with k_weight (float32 [d]).
HeadNormResult head_norm(const at::Tensor& qkv, const at::Tensor& q_weight, const at::Tensor& k_weight, double eps,
                         const AttentionShape& shape);
/// Gradient of the input qkv (what head_norm got); adds to grad_q_weight and grad_k_weight when they are defined.
at::Tensor head_norm_backward(const at::Tensor& grad, const at::Tensor& qkv, const at::Tensor& rstd,
                              const at::Tensor& q_weight, const at::Tensor& k_weight, const AttentionShape& shape,
                              at::Tensor grad_q_weight, at::Tensor grad_k_weight);

}  // namespace vixen
