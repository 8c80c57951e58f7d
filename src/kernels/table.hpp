// The table of fused kernels: every row names a kernel, its family and its arguments; a backend fills in the functions
// that it has, and where it has none the reference runs. How to add one: docs/kernels.md.
#pragma once

#include "kernels/arguments.hpp"

struct CUstream_st;  // what a cudaStream_t points to

namespace vixen {

/// What one kernels.* key chooses for (kernels/choice.hpp).
enum class KernelFamily {
  kAttention,
  kNorm,
  kDropout,
  kRope,
  kActivation,
  kEmbedding,
  kPooling,
  kAdamw,
  kSearch,
  kClusters,
  kObjective
};

/// The CPU form: items begin .. end - 1 of the work, one after another; the caller splits the work over threads. No
/// item's result depends on the split.
template <class Args>
using CpuFunction = void (*)(const Args& args, int64_t begin, int64_t end);
/// The CUDA form: enqueues all `count` items on `stream` and returns what cudaGetLastError() says.
template <class Args>
using CudaFunction = int (*)(const Args& args, int64_t count, CUstream_st* stream);

// The rows: name, family, arguments, and what an item is. A chunk is rows_per_chunk rows, whose sums are added up by
// the caller in the order of the chunks.
#define VIXEN_KERNELS(row)                                                             \
  row(attention_forward, kAttention, AttentionArgs)        /* sequence * Hkv + head */ \
      row(attention_backward, kAttention, AttentionArgs)   /* sequence * Hkv + head */ \
      row(norm_forward, kNorm, NormForwardArgs)            /* row */                   \
      row(norm_backward, kNorm, NormBackwardArgs)          /* chunk */                 \
      row(rms_forward, kNorm, RmsForwardArgs)              /* row */                   \
      row(rms_again, kNorm, RmsForwardArgs)                /* row: y of x and rstd */  \
      row(rms_backward, kNorm, RmsBackwardArgs)            /* chunk */                 \
      row(head_norm, kNorm, HeadNormArgs)                  /* row */                   \
      row(head_norm_backward, kNorm, HeadNormArgs)         /* chunk */                 \
      row(dropout, kDropout, DropoutArgs)                  /* row */                   \
      row(rope, kRope, RopeArgs)                           /* row */                   \
      row(swiglu, kActivation, SwigluArgs)                 /* row */                   \
      row(swiglu_backward, kActivation, SwigluArgs)        /* row */                   \
      row(gelu, kActivation, GeluArgs)                     /* element */               \
      row(gelu_backward, kActivation, GeluArgs)            /* element */               \
      row(column_sums, kActivation, ColumnSumsArgs)        /* chunk */                 \
      row(embed_positions, kEmbedding, EmbedPositionsArgs) /* row */                   \
      row(embed_tokens, kEmbedding, EmbedTokensArgs)       /* row */                   \
      row(segment_sums, kEmbedding, SegmentSumsArgs)       /* segment */               \
      row(mean_pool, kPooling, PoolArgs)                   /* sequence */              \
      row(mean_pool_backward, kPooling, PoolArgs)          /* sequence */

/// The functions of one backend; null where it has none.
template <template <class> class Function>
struct KernelTable {
#define VIXEN_MEMBER(name, family, Args) Function<Args> name = nullptr;
  VIXEN_KERNELS(VIXEN_MEMBER)
#undef VIXEN_MEMBER
};
using CpuTable = KernelTable<CpuFunction>;
using CudaTable = KernelTable<CudaFunction>;

}  // namespace vixen
