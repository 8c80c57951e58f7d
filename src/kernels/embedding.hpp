// Token embeddings with image rows put in their places: BERT's (a sum with position and type embeddings), and
// decoders'.
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

/// Decoders' (positions enter by rotation): out [T, D] (dtype given): row t = word[tokens[t]], or the picture's row.
/// word [V, D] float32, float16 or bfloat16, perhaps a view of a mapped file: only the rows asked for are read.
at::Tensor embed_tokens(const at::Tensor& tokens, const at::Tensor& word, const at::Tensor& images,
                        const at::Tensor& image_positions, at::ScalarType dtype);

/// Adds grad [T, D] to grad_word [V, D] (float32; undefined: the table is frozen), and returns the gradient of the
/// image rows, float32 [M, D]. Fixed summation order.
at::Tensor embed_tokens_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& image_positions,
                                 at::Tensor grad_word);

}  // namespace vixen
