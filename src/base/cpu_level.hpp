// How far a processor's vector instructions reach, and how far they may be used.
#pragma once

namespace vixen {

/// Sets of instructions, each holding those before it. On other processors than x86-64 there is the baseline alone.
enum class CpuLevel {
  kBaseline,
  kAvx2,        // AVX2, FMA, F16C
  kAvx512,      // AVX-512 F, BW, DQ, VL
  kAvx512Vnni,  // and its products of bytes
};

/// The highest level that this processor runs and the environment allows: PyTorch's variable ATEN_CPU_CAPABILITY holds
/// our kernels too ("default": kBaseline, "avx2": kAvx2). Of values that it does not know PyTorch warns; here they
/// allow everything. Reads the environment at each call.
CpuLevel cpu_level();

/// "baseline", "AVX2", "AVX-512", "AVX-512 VNNI".
const char* name_of(CpuLevel level);

}  // namespace vixen
