// Products of bytes by AVX2.
#include <immintrin.h>

#include "search/int8_kernels_maddubs.hpp"

namespace vixen {
namespace {

struct Vectors {
  using Ints = __m256i;
  static constexpr int64_t kVectors = 1, kWidth = 8;

  static Ints zero() { return _mm256_setzero_si256(); }
  static Ints load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static Ints repeat(int32_t value) { return _mm256_set1_epi32(value); }
  static __m256 load_floats(const float* from) { return _mm256_loadu_ps(from); }
  static void store_floats(float* to, __m256 values) { _mm256_storeu_ps(to, values); }
  static __m256 to_floats(Ints sums, Ints offset) { return _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, offset)); }

  static Ints maddubs(Ints query, Ints label) { return _mm256_maddubs_epi16(query, label); }
  static Ints add16(Ints a, Ints b) { return _mm256_add_epi16(a, b); }
  static Ints add32(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Ints add_pairs(Ints sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
};

}  // namespace

extern const Int8Kernels kInt8Avx2;
const Int8Kernels kInt8Avx2 =
    simd_kernels<MaddubsSimd<Vectors>, kMaddubsStripRows, kMaddubsQueries, kMaddubsLabels>(CpuLevel::kAvx2);

}  // namespace vixen
