// Products of bytes by vpmaddubsw, which adds two products in 16 bits and saturates, in vectors of either width. Four
// of its results, the eight products of a group, are added up before they are widened: unsigned codes of queries reach
// 2 x 84 and the codes of one sign in a label's group add up to 195 at most, so that sums stay within 168 x 195 =
// 32,760 of either sign.
#pragma once

#include "search/int8_kernels_simd.hpp"

namespace vixen {
namespace {

constexpr CodeLimits kMaddubsQueries = {84, kUnbounded}, kMaddubsLabels = {127, 195};
static_assert(2 * kMaddubsQueries.largest * kMaddubsLabels.largest_sum <= 32767);
constexpr int64_t kMaddubsStripRows = 6;

/// What product() wants of its vectors. Vectors has, of its Ints: repeat (32 bits), maddubs, add16, add32, and
/// add_pairs, which adds neighbouring sums of 16 bits up to 32.
template <typename Vectors>
struct MaddubsSimd : Vectors {
  using Ints = typename Vectors::Ints;

  static Ints products(const uint8_t* query, int64_t step, Ints label) {
    return Vectors::maddubs(Vectors::repeat(four_codes(query, step)), label);
  }
  static Ints add_products(Ints sums, const uint8_t* query, const Ints (&label)[4]) {
    const Ints first = Vectors::add16(products(query, 0, label[0]), products(query, 1, label[1]));
    const Ints second = Vectors::add16(products(query, 2, label[2]), products(query, 3, label[3]));
    return Vectors::add32(sums, Vectors::add_pairs(Vectors::add16(first, second)));
  }
};

}  // namespace
}  // namespace vixen
