// Products of bytes by AVX-512 VNNI's vpdpbusd, which adds four products to a sum of 32 bits: nothing saturates.
#include "search/int8_kernels_512.hpp"
#include "search/int8_kernels_simd.hpp"

namespace vixen {
namespace {

struct Simd : Vectors512 {
  static Ints add_products(Ints sums, const uint8_t* query, const Ints (&label)[4]) {
#pragma GCC unroll 4
    for (int64_t step = 0; step < 4; ++step)
      sums = _mm512_dpbusd_epi32(sums, repeat(four_codes(query, step)), label[step]);
    return sums;
  }
};

constexpr CodeLimits kLimits = {127, kUnbounded};

}  // namespace

extern const Int8Kernels kInt8Avx512Vnni;
const Int8Kernels kInt8Avx512Vnni = simd_kernels<Simd, 8, kLimits, kLimits>(CpuLevel::kAvx512Vnni);

}  // namespace vixen
