// The scan kernels compiled for AVX-512 (F, BW, DQ, VL); see cmake/VixenModule.cmake for the flags.
#include <immintrin.h>

#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

inline void widen_lanes(const uint16_t* from, float* to) {
  _mm512_storeu_ps(to, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}

}  // namespace
}  // namespace vixen

#include "search/scan_kernels_body.hpp"

namespace vixen {

ScanKernels scan_kernels_avx512() {
  return kKernels;
}

}  // namespace vixen
