// Chooses the scan kernels for the processor that the program runs on.
#include "search/scan_kernels.hpp"

namespace vixen {

const ScanKernels& scan_kernels() {
  static const ScanKernels kernels = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      return scan_kernels_avx512();
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return scan_kernels_avx2();
#endif
    return scan_kernels_baseline();
  }();
  return kernels;
}

}  // namespace vixen
