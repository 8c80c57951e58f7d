// x86-64: AVX-512, AVX2 with FMA, and the baseline.
#include "base/cpu_level.hpp"
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
  const CpuLevel level = cpu_level();
  const int64_t skipped = level >= CpuLevel::kAvx512 ? 0 : level == CpuLevel::kAvx2 ? 1 : 2;
  return {.first = kAll + skipped, .count = 3 - skipped};
}

}  // namespace vixen
