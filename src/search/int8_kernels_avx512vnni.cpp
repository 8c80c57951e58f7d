// Products of bytes by AVX-512 VNNI's vpdpbusd, which adds four products to a sum of 32 bits: nothing saturates.
#include <immintrin.h>

#include "search/int8_kernels_simd.hpp"

namespace vixen {
namespace {

struct Simd {
  using Ints = __m512i;
  static constexpr int64_t kVectors = 2, kWidth = 16;

  static Ints zero() { return _mm512_setzero_si512(); }
  static Ints load(const void* from) { return _mm512_loadu_si512(from); }
  static __m512 load_floats(const float* from) { return _mm512_loadu_ps(from); }
  static void store_floats(float* to, __m512 values) { _mm512_storeu_ps(to, values); }
  static __m512 to_floats(Ints sums, Ints offset) { return _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, offset)); }

  static Ints add_products(Ints sums, const uint8_t* query, const Ints (&label)[4]) {
#pragma GCC unroll 4
    for (int64_t step = 0; step < 4; ++step) {
      int32_t four;
      __builtin_memcpy(&four, query + 4 * step, sizeof(four));
      sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(four), label[step]);
    }
    return sums;
  }
};

constexpr int64_t kStripRows = 8, kPanelRows = Simd::kVectors * Simd::kWidth;
constexpr CodeLimits kQueryLimits = {127, kUnbounded}, kLabelLimits = {127, kUnbounded};

}  // namespace

extern const Int8Kernels kInt8Avx512Vnni;
const Int8Kernels kInt8Avx512Vnni = {
    .level = CpuLevel::kAvx512Vnni,
    .strip_rows = kStripRows,
    .panel_rows = kPanelRows,
    .query_limits = kQueryLimits,
    .label_limits = kLabelLimits,
    .code = code_row,
    .pack_query = pack_query<kStripRows, kQueryLimits.largest>,
    .pack_label = pack_label<kPanelRows>,
    .product = product<Simd, kStripRows>,
};

}  // namespace vixen
