// The body of a kernels_ISA.cpp: every fused CPU kernel compiled for one instruction set, and their table.
//   Needs VIXEN_ISA (a name), VIXEN_ISA_NAME and VIXEN_LANES (floats in a vector), and the header of the intrinsics
//   that these lanes use. Everything but the table is in an unnamed namespace of the instruction set's own, and no
//   standard template is instantiated: a function compiled here must never be the copy that the linker keeps for the
//   whole program.
#include "base/philox.hpp"
#include "kernels/cpu/cpu_kernels.hpp"

namespace vixen::VIXEN_ISA {
namespace {

#include "kernels/cpu/simd.inl"
// After the vectors they are written in:
#include "kernels/cpu/attention.inl"
#include "kernels/cpu/elementwise.inl"
#include "kernels/cpu/norm.inl"
#include "kernels/cpu/rms_norm.inl"

/// A kernel for both storages as one function.
template <class Args, CpuFunction<Args> kFloat, CpuFunction<Args> kBfloat16>
void both(const Args& a, int64_t begin, int64_t end) {
  a.storage == Storage::kFloat32 ? kFloat(a, begin, end) : kBfloat16(a, begin, end);
}

}  // namespace

#define VIXEN_BOTH(Args, kernel) both<Args, kernel<float>, kernel<uint16_t>>
extern const CpuKernels kKernels;
const CpuKernels kKernels = {
    .isa = VIXEN_ISA_NAME,
    .attention_scratch = AttentionScratch::floats,
    .table =
        {
            .attention_forward = VIXEN_BOTH(AttentionArgs, attention_forward_items),
            .attention_backward = VIXEN_BOTH(AttentionArgs, attention_backward_items),
            .norm_forward = VIXEN_BOTH(NormForwardArgs, norm_forward_rows),
            .norm_backward = VIXEN_BOTH(NormBackwardArgs, norm_backward_chunks),
            .rms_forward = VIXEN_BOTH(RmsForwardArgs, rms_forward_rows),
            .rms_again = VIXEN_BOTH(RmsForwardArgs, rms_again_rows),
            .rms_backward = VIXEN_BOTH(RmsBackwardArgs, rms_backward_chunks),
            .head_norm = VIXEN_BOTH(HeadNormArgs, head_norm_rows),
            .head_norm_backward = VIXEN_BOTH(HeadNormArgs, head_norm_backward_chunks),
            .dropout = VIXEN_BOTH(DropoutArgs, dropout_rows),
            .rope = VIXEN_BOTH(RopeArgs, rope_rows),
            .swiglu = VIXEN_BOTH(SwigluArgs, swiglu_rows),
            .swiglu_backward = VIXEN_BOTH(SwigluArgs, swiglu_backward_rows),
            .gelu = VIXEN_BOTH(GeluArgs, gelu_elements),
            .gelu_backward = VIXEN_BOTH(GeluArgs, gelu_backward_elements),
            .column_sums = VIXEN_BOTH(ColumnSumsArgs, column_sums_chunks),
            .embed_positions = VIXEN_BOTH(EmbedPositionsArgs, embed_positions_rows),
            .embed_tokens = VIXEN_BOTH(EmbedTokensArgs, embed_tokens_rows),
            .segment_sums = VIXEN_BOTH(SegmentSumsArgs, segment_sums_segments),
            .mean_pool = VIXEN_BOTH(PoolArgs, mean_pool_sequences),
            .mean_pool_backward = VIXEN_BOTH(PoolArgs, mean_pool_backward_sequences),
        },
};
#undef VIXEN_BOTH

}  // namespace vixen::VIXEN_ISA
