// Rotary position embeddings.
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

}  // namespace vixen
