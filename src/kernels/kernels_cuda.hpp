// The CUDA forms of kernels, for the dispatchers. Built only with VIXEN_CUDA.
#pragma once

#include "kernels/dropout.hpp"
#include "kernels/packed_attention.hpp"

namespace vixen {

/// Whether varlen flash attention gives what was asked: bf16 on CUDA, no dropout (its own random numbers are not ours),
/// head width a multiple of 8 up to 256, and the reference not asked for.
bool use_flash(const at::Tensor& qkv, const AttentionShape& shape, const Dropout& dropout);
AttentionResult flash_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const AttentionShape& shape);
at::Tensor flash_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                    const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                    const AttentionShape& shape);

/// x * mask / (1 - p) by one Philox block a thread; float32 or bfloat16 on CUDA.
at::Tensor apply_dropout_cuda(const at::Tensor& x, const TokenKeys& keys, const Dropout& dropout);

}  // namespace vixen
