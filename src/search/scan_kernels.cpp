// Chooses the scan kernels for the processor that the program runs on, and what the environment allows.
#include "search/scan_kernels.hpp"

#include "base/cpu_level.hpp"

namespace vixen {

const ScanKernels& scan_kernels() {
  static const ScanKernels kernels = [] {
#if defined(__x86_64__)
    if (cpu_level() >= CpuLevel::kAvx512) return scan_kernels_avx512();
    if (cpu_level() >= CpuLevel::kAvx2) return scan_kernels_avx2();
#endif
    return scan_kernels_baseline();
  }();
  return kernels;
}

}  // namespace vixen
