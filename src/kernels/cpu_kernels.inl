// The body of a cpu_kernels_ISA.cpp: every fused CPU kernel compiled for one instruction set, and their table.
//   Needs VIXEN_ISA (a name) and VIXEN_LANES (floats in a vector). Everything but the table is in an unnamed namespace
//   of the instruction set's own, and no standard template is instantiated: a function compiled here must never be the
//   copy that the linker keeps for the whole program.
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the deliberately undefined operands inside its AVX-512 intrinsics for a mistake of ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "base/philox.hpp"
#include "kernels/cpu_kernels.hpp"

namespace vixen::VIXEN_ISA {
namespace {

#include "kernels/cpu_simd.inl"
// After the vectors they are written in:
#include "kernels/cpu_attention.inl"
#include "kernels/cpu_elementwise.inl"
#include "kernels/cpu_norm.inl"
#include "kernels/cpu_rms_norm.inl"

/// A kernel for both storages as one function.
#define VIXEN_BOTH(name, Args, kernel)                                                               \
  void name(const Args& a, int64_t begin, int64_t end) {                                             \
    a.storage == Storage::kFloat32 ? kernel<float>(a, begin, end) : kernel<uint16_t>(a, begin, end); \
  }
VIXEN_BOTH(dropout, DropoutRows, dropout_rows)
VIXEN_BOTH(norm_forward, NormForward, norm_forward_rows)
VIXEN_BOTH(norm_backward, NormBackward, norm_backward_rows)
VIXEN_BOTH(rms_forward, RmsForward, rms_forward_rows)
VIXEN_BOTH(rms_again, RmsForward, rms_again_rows)
VIXEN_BOTH(rms_backward, RmsBackward, rms_backward_rows)
VIXEN_BOTH(head_norm, HeadNormArgs, head_norm_rows)
VIXEN_BOTH(head_norm_backward, HeadNormArgs, head_norm_backward_rows)
VIXEN_BOTH(rope, RopeArgs, rope_rows)
VIXEN_BOTH(swiglu, SwigluArgs, swiglu_rows)
VIXEN_BOTH(swiglu_backward, SwigluArgs, swiglu_backward_rows)
VIXEN_BOTH(gelu, GeluArgs, gelu_elements)
VIXEN_BOTH(gelu_backward, GeluArgs, gelu_backward_elements)
VIXEN_BOTH(column_sums, ColumnSums, column_sums_chunks)
VIXEN_BOTH(embed, EmbedRows, embed_rows)
VIXEN_BOTH(embed_tokens, EmbedTokens, embed_tokens_rows)
VIXEN_BOTH(segment_sums, SegmentSums, segment_sums_ranges)
VIXEN_BOTH(mean_pool, PoolArgs, mean_pool_sequences)
VIXEN_BOTH(mean_pool_backward, PoolArgs, mean_pool_backward_sequences)
#undef VIXEN_BOTH

int64_t attention_scratch(int64_t max_seqlen, int64_t head_dim) {
  return AttentionScratch::floats(max_seqlen, head_dim);
}

void attention_forward(const AttentionArgs& a, float* scratch, int64_t begin, int64_t end) {
  a.storage == Storage::kFloat32 ? attention_forward_items<float>(a, scratch, begin, end)
                                 : attention_forward_items<uint16_t>(a, scratch, begin, end);
}

void attention_backward(const AttentionArgs& a, float* scratch, int64_t begin, int64_t end) {
  a.storage == Storage::kFloat32 ? attention_backward_items<float>(a, scratch, begin, end)
                                 : attention_backward_items<uint16_t>(a, scratch, begin, end);
}

}  // namespace

extern const CpuKernels kTable;
const CpuKernels kTable = {
    VIXEN_ISA_NAME,
    dropout,
    norm_forward,
    norm_backward,
    rms_forward,
    rms_again,
    rms_backward,
    head_norm,
    head_norm_backward,
    rope,
    swiglu,
    swiglu_backward,
    gelu,
    gelu_backward,
    column_sums,
    attention_scratch,
    attention_forward,
    attention_backward,
    embed,
    embed_tokens,
    segment_sums,
    mean_pool,
    mean_pool_backward,
};

}  // namespace vixen::VIXEN_ISA
