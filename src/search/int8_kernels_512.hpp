// Vectors of 512 bits for the products of bytes: two of 16 labels to a panel.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace vixen {
namespace {

struct Vectors512 {
  using Ints = __m512i;
  static constexpr int64_t kVectors = 2, kWidth = 16;

  static Ints zero() { return _mm512_setzero_si512(); }
  static Ints load(const void* from) { return _mm512_loadu_si512(from); }
  static Ints repeat(int32_t value) { return _mm512_set1_epi32(value); }
  static __m512 load_floats(const float* from) { return _mm512_loadu_ps(from); }
  static void store_floats(float* to, __m512 values) { _mm512_storeu_ps(to, values); }
  static __m512 to_floats(Ints sums, Ints offset) { return _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, offset)); }
};

}  // namespace
}  // namespace vixen
