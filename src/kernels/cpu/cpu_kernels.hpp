// The fused CPU kernels, one table for each instruction set, and the choice of one.
#pragma once

#include "kernels/table.hpp"

namespace vixen {

struct CpuKernels {
  const char* isa;                                                     // "avx512", "avx2" or "baseline"
  int64_t (*attention_scratch)(int64_t max_seqlen, int64_t head_dim);  // floats of AttentionArgs::scratch
  CpuTable table;                                                      // every row is filled in
};

/// The table of the best instruction set of this machine, or of the forced one.
const CpuKernels& cpu_kernels();

/// For tests and benchmarks: use "avx512", "avx2" or "baseline" from now on, nullptr for the best available. False, and
/// nothing changes, when this machine cannot run it. Not thread-safe.
bool force_cpu_isa(const char* isa);
/// For tests: these kernels, which must outlive their use, until force_cpu_isa says otherwise. Not thread-safe.
void force_cpu_kernels(const CpuKernels& kernels);

/// The kernels of instruction sets that this machine can run and ATEN_CPU_CAPABILITY allows, best first; the baseline
/// is the last. By the processor: variants_x86_64.cpp, or no_x86_64.cpp on all others.
struct CpuVariants {
  const CpuKernels* const* first;
  int64_t count;
};
CpuVariants cpu_variants();

}  // namespace vixen
