// Products of bytes by AVX2's vpmaddubsw, which adds two products in 16 bits and saturates. Four of them, the eight
// products of a group, are added up before they are widened: unsigned codes of queries reach 2 x 84 and the codes of
// one sign in a label's group add up to 195 at most, so that sums stay within 168 x 195 = 32,760 of either sign.
#include <immintrin.h>

#include "search/int8_kernels_simd.hpp"

namespace vixen {
namespace {

struct Simd {
  using Ints = __m256i;
  static constexpr int64_t kVectors = 1, kWidth = 8;

  static Ints zero() { return _mm256_setzero_si256(); }
  static Ints load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static __m256 load_floats(const float* from) { return _mm256_loadu_ps(from); }
  static void store_floats(float* to, __m256 values) { _mm256_storeu_ps(to, values); }
  static __m256 to_floats(Ints sums, Ints offset) { return _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, offset)); }

  static Ints products(const uint8_t* query, int64_t step, Ints label) {
    int32_t four;
    __builtin_memcpy(&four, query + 4 * step, sizeof(four));
    return _mm256_maddubs_epi16(_mm256_set1_epi32(four), label);
  }
  static Ints add_products(Ints sums, const uint8_t* query, const Ints (&label)[4]) {
    const Ints first = _mm256_add_epi16(products(query, 0, label[0]), products(query, 1, label[1]));
    const Ints second = _mm256_add_epi16(products(query, 2, label[2]), products(query, 3, label[3]));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_add_epi16(first, second), _mm256_set1_epi16(1)));
  }
};

constexpr int64_t kStripRows = 6, kPanelRows = Simd::kVectors * Simd::kWidth;
constexpr CodeLimits kQueryLimits = {84, kUnbounded}, kLabelLimits = {127, 195};
static_assert(2 * kQueryLimits.largest * kLabelLimits.largest_sum <= 32767);

}  // namespace

extern const Int8Kernels kInt8Avx2;
const Int8Kernels kInt8Avx2 = {
    .level = CpuLevel::kAvx2,
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
