// Varlen flash attention of ATen for packed sequences in bfloat16.
//   qkv [T, (H + 2 Hkv) d] is viewed as strided q [T, H, d] and k, v [T, Hkv, d]; flash attention takes strides, its
//   last dimension is contiguous. It repeats key-value heads itself.
#include <cmath>

#include "kernels/cuda_kernels.hpp"

namespace vixen {
namespace {

std::array<at::Tensor, 3> split(const at::Tensor& qkv, const AttentionShape& shape) {
  const int64_t heads = shape.heads, kv_heads = shape.key_value_heads();
  const at::Tensor parts = qkv.view({qkv.size(0), heads + 2 * kv_heads, -1});
  return {parts.narrow(1, 0, heads), parts.narrow(1, heads, kv_heads), parts.narrow(1, heads + kv_heads, kv_heads)};
}

double scale_of(const at::Tensor& query) {
  return 1.0 / std::sqrt(static_cast<double>(query.size(2)));
}

}  // namespace

AttentionResult flash_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const AttentionShape& shape) {
  const auto [query, key, value] = split(qkv.contiguous(), shape);
  const auto result = at::_flash_attention_forward(query, key, value, cu_seqlens, cu_seqlens, shape.max_seqlen,
                                                   shape.max_seqlen, /*dropout_p=*/0.0, shape.causal,
                                                   /*return_debug_mask=*/false, scale_of(query));
  return {std::get<0>(result).reshape({qkv.size(0), -1}), std::get<1>(result)};
}

at::Tensor flash_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                    const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                    const AttentionShape& shape) {
  const auto [query, key, value] = split(qkv.contiguous(), shape);
  // Without dropout the random state is read by nobody; its shape is that which the forward returns.
  const at::Tensor state = at::empty({2}, qkv.options().dtype(at::kUInt64));
  const auto [grad_query, grad_key, grad_value] = at::_flash_attention_backward(
      grad_context.contiguous().view_as(query), query, key, value, forward.context.view_as(query), forward.lse,
      cu_seqlens, cu_seqlens, shape.max_seqlen, shape.max_seqlen, /*dropout_p=*/0.0, shape.causal, state, at::Tensor{},
      scale_of(query));
  return at::cat({grad_query, grad_key, grad_value}, 1).view({qkv.size(0), -1});
}

}  // namespace vixen
