// The scan kernels compiled for AVX-512 (F, BW, DQ, VL); see cmake/VixenModule.cmake for the flags.
#include "search/scan_kernels_body.hpp"

namespace vixen {

ScanKernels scan_kernels_avx512() {
  return kKernels;
}

}  // namespace vixen
