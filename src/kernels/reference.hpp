// The readable ATen forms of the kernels: right on any device, the measure of the fused ones, and their fallback.
//   Signatures are those of the public headers; see there for shapes. All arithmetic is float32.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/adamw.hpp"
#include "kernels/dropout.hpp"
#include "kernels/head_norm.hpp"
#include "kernels/norm.hpp"
#include "kernels/packed_attention.hpp"
#include "kernels/pooling.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"

namespace vixen::reference {

/// Philox4x32-10 over int64 tensors that hold 32-bit words and broadcast to one shape S -> int64 [S..., 8]: the eight
/// 16-bit draws of each block, low half of word 0 first.
at::Tensor philox_draws(const at::Tensor& counter0, const at::Tensor& counter1, const at::Tensor& counter2,
                        const Dropout& dropout);
at::Tensor apply_dropout(const at::Tensor& x, const TokenKeys& keys, const Dropout& dropout);

AttentionResult packed_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                                 const AttentionShape& shape, const Dropout& dropout);
at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                     const at::Tensor& sequence_keys, const AttentionShape& shape,
                                     const Dropout& dropout);

NormResult dropout_add_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                            const at::Tensor& bias, double eps, const TokenKeys& keys, const Dropout& dropout);
NormGradient dropout_add_norm_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                       const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                       at::Tensor grad_bias);
NormResult norm_dropout(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                        const TokenKeys& keys, const Dropout& dropout);
at::Tensor norm_dropout_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                 const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                 at::Tensor grad_bias);

RmsNormResult add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps);
at::Tensor rms_norm_again(const at::Tensor& sum, const at::Tensor& rstd, const at::Tensor& weight);
at::Tensor add_rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& grad_sum, const at::Tensor& sum,
                                 const at::Tensor& rstd, const at::Tensor& weight, at::Tensor grad_weight);

void apply_rope(at::Tensor& qkv, const at::Tensor& position_ids, const at::Tensor& table, const AttentionShape& shape,
                bool inverse);
HeadNormResult head_norm(const at::Tensor& qkv, const at::Tensor& q_weight, const at::Tensor& k_weight, double eps,
                         const AttentionShape& shape);
at::Tensor head_norm_backward(const at::Tensor& grad, const at::Tensor& qkv, const at::Tensor& rstd,
                              const at::Tensor& q_weight, const at::Tensor& k_weight, const AttentionShape& shape,
                              at::Tensor grad_q_weight, at::Tensor grad_k_weight);

at::Tensor swiglu(const at::Tensor& gate_up);
at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up);

at::Tensor gelu(const at::Tensor& x);
at::Tensor gelu_backward(const at::Tensor& grad_y, const at::Tensor& x);
void accumulate_bias_gradient(const at::Tensor& grad, at::Tensor grad_bias);

void adamw_update(at::Tensor value, const at::Tensor& gradient, at::Tensor mean, at::Tensor square,
                  const AdamwRate& rate, int64_t step);

at::Tensor mean_pool(const at::Tensor& x, const at::Tensor& cu_seqlens);
at::Tensor mean_pool_backward(const at::Tensor& grad, const at::Tensor& cu_seqlens, int64_t n_positions,
                              at::ScalarType dtype);

at::Tensor embed_positions(const at::Tensor& tokens, const at::Tensor& position_ids, const at::Tensor& word,
                           const at::Tensor& position, const at::Tensor& type, const at::Tensor& images,
                           const at::Tensor& image_positions, at::ScalarType dtype);
at::Tensor embed_positions_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& position_ids,
                                    const at::Tensor& image_positions, at::Tensor grad_word, at::Tensor grad_position,
                                    at::Tensor grad_type);

at::Tensor embed_tokens(const at::Tensor& tokens, const at::Tensor& word, const at::Tensor& images,
                        const at::Tensor& image_positions, at::ScalarType dtype);
at::Tensor embed_tokens_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& image_positions,
                                 at::Tensor grad_word);

}  // namespace vixen::reference
