// The scan kernels compiled for any x86-64 (or other) processor; see cmake/VixenModule.cmake for the flags.
#include "search/scan_kernels_body.hpp"

namespace vixen {

ScanKernels scan_kernels_baseline() {
  return kKernels;
}

}  // namespace vixen
