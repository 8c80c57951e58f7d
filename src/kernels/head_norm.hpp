// The norm of query and key heads that Qwen3 has in front of its rotary positions.
//   T positions, rows q | k | v of H, Hkv, Hkv heads of d columns, float32 or bfloat16
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/packed_attention.hpp"

namespace vixen {

struct HeadNormResult {
  at::Tensor qkv;   // [T, (H + 2 Hkv) d]: q and k heads normalised, v as it was
  at::Tensor rstd;  // float32 [T, H + Hkv]
};
/// Bytes of `rstd` for T positions.
constexpr int64_t head_norm_statistics_bytes(int64_t positions, const AttentionShape& shape) {
  return int64_t{sizeof(float)} * positions * (shape.heads + shape.key_value_heads());
}

/// RMS norm of every q head with q_weight and every k head with k_weight (float32 [d]).
HeadNormResult head_norm(const at::Tensor& qkv, const at::Tensor& q_weight, const at::Tensor& k_weight, double eps,
                         const AttentionShape& shape);
/// Gradient of the input qkv (what head_norm got); adds to grad_q_weight and grad_k_weight when they are defined.
at::Tensor head_norm_backward(const at::Tensor& grad, const at::Tensor& qkv, const at::Tensor& rstd,
                              const at::Tensor& q_weight, const at::Tensor& k_weight, const AttentionShape& shape,
                              at::Tensor grad_q_weight, at::Tensor grad_k_weight);

}  // namespace vixen
