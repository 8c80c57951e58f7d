// Varlen flash attention of ATen for packed sequences in bfloat16.
//   qkv [T, 3D] is viewed as three strided [T, H, d]; flash attention takes strides, its last dimension is contiguous.
#include <cmath>

#include "base/check.hpp"
#include "kernels/choice.hpp"
#include "kernels/kernels_cuda.hpp"

namespace vixen {
namespace {

std::array<at::Tensor, 3> split(const at::Tensor& qkv, const AttentionShape& shape) {
  const at::Tensor parts = qkv.view({qkv.size(0), 3, shape.heads, qkv.size(1) / (3 * shape.heads)});
  return {parts.select(1, 0), parts.select(1, 1), parts.select(1, 2)};
}

double scale_of(const at::Tensor& query) {
  return 1.0 / std::sqrt(static_cast<double>(query.size(2)));
}

}  // namespace

bool use_flash(const at::Tensor& qkv, const AttentionShape& shape, const Dropout& dropout) {
  const int64_t head_dim = qkv.size(1) / (3 * shape.heads);
  return qkv.is_cuda() && qkv.scalar_type() == at::kBFloat16 && !dropout.active() && head_dim % 8 == 0 &&
         head_dim <= 256 && kernel_choices().attention != KernelChoice::kReference;
}

AttentionResult flash_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const AttentionShape& shape) {
  const auto [query, key, value] = split(qkv.contiguous(), shape);
  const auto result = at::_flash_attention_forward(query, key, value, cu_seqlens, cu_seqlens, shape.max_seqlen,
                                                   shape.max_seqlen, /*dropout_p=*/0.0, /*is_causal=*/false,
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
      cu_seqlens, cu_seqlens, shape.max_seqlen, shape.max_seqlen, /*dropout_p=*/0.0, /*is_causal=*/false, state,
      at::Tensor{}, scale_of(query));
  return at::stack({grad_query, grad_key, grad_value}, 1).view({qkv.size(0), -1});
}

}  // namespace vixen
