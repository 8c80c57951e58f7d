// The scan kernels compiled for any x86-64 (or other) processor; see cmake/VixenModule.cmake for the flags.
#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

inline void widen_lanes(const uint16_t* from, float* to) {
  for (int64_t j = 0; j < kDotLanes; ++j) {
    const int32_t magnitude = from[j] & 0x7FFF;
    const auto denormal = __builtin_bit_cast(int32_t, static_cast<float>(magnitude) * 0x1p-24F);
    const int32_t normal = (magnitude << 13) + (112 << 23);
    const auto sign = static_cast<int32_t>(static_cast<uint32_t>(from[j] & 0x8000) << 16);
    to[j] = __builtin_bit_cast(float, (magnitude < 0x400 ? denormal : normal) | sign);
  }
}

}  // namespace
}  // namespace vixen

#include "search/scan_kernels_body.hpp"

namespace vixen {

ScanKernels scan_kernels_baseline() {
  return kKernels;
}

}  // namespace vixen
