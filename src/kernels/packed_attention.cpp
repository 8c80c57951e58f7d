// Checks and dispatch of packed self-attention: varlen flash attention, fused kernel, or the reference.
#include "kernels/packed_attention.hpp"

#include "base/check.hpp"
#include "kernels/cuda_forms.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/packed_sequences.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

void check_arguments(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                     const AttentionShape& shape) {
  const int64_t kv_heads = shape.key_value_heads();
  VIXEN_CHECK(shape.heads > 0 && kv_heads > 0 && shape.heads % kv_heads == 0,
              "{} query heads do not share {} key-value heads evenly", shape.heads, kv_heads);
  VIXEN_CHECK(qkv.dim() == 2 && qkv.size(1) % (shape.heads + 2 * kv_heads) == 0,
              "qkv [{}, {}] does not split into q, k, v of {}, {} and {} heads", qkv.size(0), qkv.size(-1), shape.heads,
              kv_heads, kv_heads);
  VIXEN_CHECK(cu_seqlens.scalar_type() == at::kInt && cu_seqlens.size(0) == sequence_keys.size(0) + 1,
              "{} offsets for {} sequences", cu_seqlens.size(0), sequence_keys.size(0));
  VIXEN_CHECK(shape.max_seqlen <= 65536, "dropout keys hold positions below 65536, not {}", shape.max_seqlen);
}

/// Runs a fused attention kernel over all (sequence, key-value head); on a CPU with zeroed scratch for each thread's
/// range.
void run_items(const KernelRow<AttentionArgs>& row, at::Device device, const AttentionArgs& args, int64_t sequences) {
  const FusedKernel<AttentionArgs> kernel(row, device);
  const auto on_cpu = kernel.cpu();
  if (!on_cpu) return kernel.run(args, sequences * args.kv_heads, 1);
  const int64_t scratch = cpu_kernels().attention_scratch(args.max_seqlen, args.head_dim);
  at::parallel_for(0, sequences * args.kv_heads, args.kv_heads, [&](int64_t begin, int64_t end) {
    const at::Tensor buffer = at::zeros({scratch}, at::kFloat);
    AttentionArgs own = args;
    own.scratch = buffer.data_ptr<float>();
    on_cpu(own, begin, end);
  });
}

/// The scratch is sized by max_seqlen: a longer sequence would run over it.
void check_offsets(const AttentionArgs& args, int64_t sequences) {
  for (int64_t i = 0; i < sequences; ++i)
    VIXEN_CHECK(args.offsets[i + 1] >= args.offsets[i] && args.offsets[i + 1] - args.offsets[i] <= args.max_seqlen,
                "sequence {} covers {} .. {}, max_seqlen is {}", i, args.offsets[i], args.offsets[i + 1],
                args.max_seqlen);
  VIXEN_CHECK(args.offsets[0] == 0 && args.offsets[sequences] == args.positions,
              "offsets cover {} .. {} of {} positions", args.offsets[0], args.offsets[sequences], args.positions);
}

AttentionArgs fused_arguments(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                              const AttentionShape& shape, const Dropout& dropout) {
  AttentionArgs args{};
  args.storage = storage_of(qkv.scalar_type());
  args.positions = qkv.size(0);
  args.heads = shape.heads;
  args.kv_heads = shape.key_value_heads();
  args.head_dim = shape.head_dim(qkv.size(1));
  args.max_seqlen = shape.max_seqlen;
  args.causal = shape.causal;
  args.offsets = cu_seqlens.const_data_ptr<int32_t>();
  args.sequence_keys = sequence_keys.const_data_ptr<int64_t>();
  args.qkv = qkv.const_data_ptr();
  args.dropout = dropout_key(dropout);
  if (cu_seqlens.is_cpu()) check_offsets(args, sequence_keys.size(0));
  return args;
}

AttentionForm form_of(const at::Tensor& qkv, const AttentionShape& shape, const Dropout& dropout) {
  return attention_form(qkv.device(), qkv.scalar_type(), shape.head_dim(qkv.size(1)), shape, dropout);
}

/// Whether this build has the fused kernels for `device`.
bool has_fused(at::Device device) {
  const auto has = [&](const KernelRow<AttentionArgs>& row) {
    return static_cast<bool>(FusedKernel<AttentionArgs>(row, device));
  };
  return has(kernel::attention_forward) && has(kernel::attention_backward);
}

AttentionForm fastest_form(at::Device device, at::ScalarType dtype, int64_t head_dim, const AttentionShape& shape,
                           bool drops) {
  if (!has_fused(device)) return AttentionForm::kReference;
  if (device.is_cpu())
    return dtype == at::kFloat || dtype == at::kBFloat16 ? AttentionForm::kFused : AttentionForm::kReference;
  const AttentionForm form = cuda_attention_form(dtype, head_dim, shape, drops);
  if (form != AttentionForm::kFlash || device.is_cuda()) return form;
  // A device that a test lends CUDA's kernels to has no flash attention.
  return short_attention_takes(dtype, head_dim, shape) ? AttentionForm::kFused : AttentionForm::kReference;
}

}  // namespace

AttentionForm attention_form(at::Device device, at::ScalarType dtype, int64_t head_dim, const AttentionShape& shape,
                             const Dropout& dropout) {
  const KernelChoice choice = kernel_choice(KernelFamily::kAttention);
  if (choice == KernelChoice::kReference) return AttentionForm::kReference;
  const AttentionForm form = fastest_form(device, dtype, head_dim, shape, dropout.active());
  if (choice == KernelChoice::kFused && form == AttentionForm::kReference)
    fail_user(
        "{} = fused: no fused attention for {} on {}, sequences of {} positions, heads of {} columns, dropout {} (cuda "
        "has flash attention: bfloat16, heads of a multiple of 8 up to 256 columns, no dropout; and a kernel for "
        "float32 and bfloat16, sequences of up to {} positions, {} to a key-value head, heads of up to {} columns); "
        "use auto or reference",
        key_of(KernelFamily::kAttention), c10::toString(dtype), device.str(), shape.max_seqlen, head_dim, dropout.p,
        kShortPositions, kShortQueries, kShortColumns);
  return form;
}

namespace {

/// groups: null: the reference finds them.
AttentionResult attend(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                       const AttentionShape& shape, const Dropout& dropout, SequenceGroups* groups) {
  check_arguments(qkv, cu_seqlens, sequence_keys, shape);
  const AttentionForm form = form_of(qkv, shape, dropout);
  if (form == AttentionForm::kFlash) return flash_attention(qkv, cu_seqlens, shape);
  if (form == AttentionForm::kFused) {
    const at::Tensor input = qkv.contiguous(), offsets = cu_seqlens.contiguous(), keys = sequence_keys.contiguous();
    AttentionArgs args = fused_arguments(input, offsets, keys, shape, dropout);
    AttentionResult result{at::empty({qkv.size(0), args.heads * args.head_dim}, qkv.options()),
                           at::empty({shape.heads, qkv.size(0)}, qkv.options().dtype(at::kFloat))};
    args.context = result.context.mutable_data_ptr();
    args.lse = result.lse.data_ptr<float>();
    run_items(kernel::attention_forward, qkv.device(), args, keys.size(0));
    return result;
  }
  refuse_reference("attention_forward", KernelFamily::kAttention);
  return groups ? reference::packed_attention(qkv, shape, dropout, *groups)
                : reference::packed_attention(qkv, cu_seqlens, sequence_keys, shape, dropout);
}

at::Tensor attend_backward(const at::Tensor& grad_context, const at::Tensor& qkv, const AttentionResult& forward,
                           const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys, const AttentionShape& shape,
                           const Dropout& dropout, SequenceGroups* groups) {
  check_arguments(qkv, cu_seqlens, sequence_keys, shape);
  const AttentionForm form = form_of(qkv, shape, dropout);
  if (form == AttentionForm::kFlash) return flash_attention_backward(grad_context, qkv, forward, cu_seqlens, shape);
  if (form == AttentionForm::kFused) {
    const at::Tensor input = qkv.contiguous(), offsets = cu_seqlens.contiguous(), keys = sequence_keys.contiguous();
    const at::Tensor grad = grad_context.contiguous();
    VIXEN_CHECK(grad.scalar_type() == qkv.scalar_type(), "gradient is {}, qkv {}", c10::toString(grad.scalar_type()),
                c10::toString(qkv.scalar_type()));
    VIXEN_CHECK(
        grad.dim() == 2 && grad.size(0) == qkv.size(0) && grad.size(1) == shape.heads * shape.head_dim(qkv.size(1)),
        "gradient [{}, {}] for {} heads of {}", grad.size(0), grad.size(-1), shape.heads, shape.head_dim(qkv.size(1)));
    at::Tensor grad_qkv = at::empty_like(input);
    AttentionArgs args = fused_arguments(input, offsets, keys, shape, dropout);
    args.lse = forward.lse.data_ptr<float>();
    args.grad_context = grad.const_data_ptr();
    args.grad_qkv = grad_qkv.mutable_data_ptr();
    run_items(kernel::attention_backward, qkv.device(), args, keys.size(0));
    return grad_qkv;
  }
  refuse_reference("attention_backward", KernelFamily::kAttention);
  return groups ? reference::packed_attention_backward(grad_context, qkv, forward, shape, dropout, *groups)
                : reference::packed_attention_backward(grad_context, qkv, forward, cu_seqlens, sequence_keys, shape,
                                                       dropout);
}

}  // namespace

AttentionResult packed_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                                 const AttentionShape& shape, const Dropout& dropout) {
  return attend(qkv, cu_seqlens, sequence_keys, shape, dropout, nullptr);
}

AttentionResult packed_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                                 const AttentionShape& shape, const Dropout& dropout, SequenceGroups& groups) {
  return attend(qkv, cu_seqlens, sequence_keys, shape, dropout, &groups);
}

at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                     const at::Tensor& sequence_keys, const AttentionShape& shape,
                                     const Dropout& dropout) {
  return attend_backward(grad_context, qkv, forward, cu_seqlens, sequence_keys, shape, dropout, nullptr);
}

at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                     const at::Tensor& sequence_keys, const AttentionShape& shape,
                                     const Dropout& dropout, SequenceGroups& groups) {
  return attend_backward(grad_context, qkv, forward, cu_seqlens, sequence_keys, shape, dropout, &groups);
}

}  // namespace vixen
