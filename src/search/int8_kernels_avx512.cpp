// The products of int8_kernels_avx2.cpp in vectors of 512 bits, for processors without VNNI.
#include "search/int8_kernels_512.hpp"
#include "search/int8_kernels_maddubs.hpp"

namespace vixen {
namespace {

struct Vectors : Vectors512 {
  static Ints maddubs(Ints query, Ints label) { return _mm512_maddubs_epi16(query, label); }
  static Ints add16(Ints a, Ints b) { return _mm512_add_epi16(a, b); }
  static Ints add32(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints add_pairs(Ints sums) { return _mm512_madd_epi16(sums, _mm512_set1_epi16(1)); }
};

}  // namespace

extern const Int8Kernels kInt8Avx512;
const Int8Kernels kInt8Avx512 =
    simd_kernels<MaddubsSimd<Vectors>, kMaddubsStripRows, kMaddubsQueries, kMaddubsLabels>(CpuLevel::kAvx512);

}  // namespace vixen
