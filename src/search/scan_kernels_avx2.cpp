// The scan kernels compiled for AVX2 and FMA; see cmake/VixenModule.cmake for the flags.
#include "search/scan_kernels_body.hpp"

namespace vixen {

ScanKernels scan_kernels_avx2() {
  return kKernels;
}

}  // namespace vixen
