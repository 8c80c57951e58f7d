// x86-64: AVX-512, AVX2 with FMA, and the baseline.
#include <cstdlib>
#include <string_view>

#include "kernels/cpu/cpu_kernels.hpp"

namespace vixen {
namespace cpu_avx512 {
extern const CpuKernels kKernels;
}
namespace cpu_avx2 {
extern const CpuKernels kKernels;
}
namespace cpu_baseline {
extern const CpuKernels kKernels;
}

CpuVariants cpu_variants() {
  static const CpuKernels* const kAll[] = {&cpu_avx512::kKernels, &cpu_avx2::kKernels, &cpu_baseline::kKernels};
  // The variable by which PyTorch's own kernels are held to fewer instructions holds ours too: "default", "avx2" or
  // "avx512". Of other values PyTorch warns.
  const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string_view most = variable != nullptr ? variable : "";
  const bool avx2 = most != "default" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && most != "avx2" && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const int64_t skipped = avx512 ? 0 : avx2 ? 1 : 2;
  return {.first = kAll + skipped, .count = 3 - skipped};
}

}  // namespace vixen
