// Sum of token, position and type embeddings, with image rows put in their places.
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

/// out [T, D] (dtype given): row t = word[tokens[t]] (or image row) + position[position_ids[t]] + type[0].
/// word [V, D], position [P, D], type [D] (undefined: none), float32. images [M, D] float32 at image_positions (M may
/// be 0).
at::Tensor embed_positions(const at::Tensor& tokens, const at::Tensor& position_ids, const at::Tensor& word,
                           const at::Tensor& position, const at::Tensor& type, const at::Tensor& images,
                           const at::Tensor& image_positions, at::ScalarType dtype);

/// Adds grad [T, D] to grad_word [V, D], grad_position [P, D], grad_type [D] (float32), and returns the gradient of the
/// image rows, float32 [M, D]. Image positions give nothing to grad_word. Fixed summation order.
at::Tensor embed_positions_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& position_ids,
                                    const at::Tensor& image_positions, at::Tensor grad_word, at::Tensor grad_position,
                                    at::Tensor grad_type);

}  // namespace vixen
