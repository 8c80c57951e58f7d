// The scan kernels compiled for AVX2 and FMA; see cmake/VixenModule.cmake for the flags.
#include <immintrin.h>

#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

inline void widen_lanes(const uint16_t* from, float* to) {
  _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  _mm256_storeu_ps(to + 8, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8))));
}

}  // namespace
}  // namespace vixen

#include "search/scan_kernels_body.hpp"

namespace vixen {

ScanKernels scan_kernels_avx2() {
  return kKernels;
}

}  // namespace vixen
