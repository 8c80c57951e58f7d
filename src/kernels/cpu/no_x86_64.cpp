// Other processors than x86-64: the baseline, which the compiler makes of vectors of four floats (NEON on ARM).
#include "kernels/cpu/cpu_kernels.hpp"

namespace vixen {
namespace cpu_baseline {
extern const CpuKernels kKernels;
}

CpuVariants cpu_variants() {
  static const CpuKernels* const kAll[] = {&cpu_baseline::kKernels};
  return {.first = kAll, .count = 1};
}

}  // namespace vixen
