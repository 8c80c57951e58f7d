// The products of int8_kernels_avx2.cpp in vectors of 512 bits, for processors without VNNI; sums are bounded as there.
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

  static Ints products(const uint8_t* query, int64_t step, Ints label) {
    int32_t four;
    __builtin_memcpy(&four, query + 4 * step, sizeof(four));
    return _mm512_maddubs_epi16(_mm512_set1_epi32(four), label);
  }
  static Ints add_products(Ints sums, const uint8_t* query, const Ints (&label)[4]) {
    const Ints first = _mm512_add_epi16(products(query, 0, label[0]), products(query, 1, label[1]));
    const Ints second = _mm512_add_epi16(products(query, 2, label[2]), products(query, 3, label[3]));
    return _mm512_add_epi32(sums, _mm512_madd_epi16(_mm512_add_epi16(first, second), _mm512_set1_epi16(1)));
  }
};

constexpr int64_t kStripRows = 6, kPanelRows = Simd::kVectors * Simd::kWidth;
constexpr CodeLimits kQueryLimits = {84, kUnbounded}, kLabelLimits = {127, 195};
static_assert(2 * kQueryLimits.largest * kLabelLimits.largest_sum <= 32767);

}  // namespace

extern const Int8Kernels kInt8Avx512;
const Int8Kernels kInt8Avx512 = {
    .level = CpuLevel::kAvx512,
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
