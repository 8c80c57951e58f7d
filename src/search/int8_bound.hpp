// A bound on the difference between the score of a product of 8-bit codes and the canonical score.
//
// A label x in codes is x' = s c, a query q in codes is q' = t e, with integers c and e and float32 scales; the product
// of codes is exact. Then
//   |q.x - q'.x'| = |q.(x - x') + (q - q').x'| <= |q| |x - x'| + |q - q'| |x'|      (Cauchy-Schwarz)
// with the norms of the actual errors, so that nothing is assumed about how the codes were found. To this come
//   the canonical score's own rounding      2^-23 |q| |x| <= 2^-23 |q| |x'| + 2^-23 |q| |x - x'|   (error_bound.hpp)
//   the floats of the product               at most 5 roundings of 2^-24 of |q'.x'| <= |q'| |x'|, 6 of the bound itself
//   what underflows there                   kInt8Tiny
// so that with these weights and norms, each rounded upwards,
//   |score - canonical| <= residual_weight * residual + norm_weight * norm + kInt8Tiny
//     residual_weight = |q|,  norm_weight = |q - q'| + 2^-20 (|q'| + |q|),  both times 1 + 2^-19,
//     residual = |x - x'|,  norm = |x'|
// and the product gives score + that bound, which the canonical score does not exceed.
#pragma once

#include <cstdint>

#include "search/int8_kernels.hpp"

namespace vixen {

/// A row in codes as products see it; norm and residual are rounded upwards.
struct CodedNorms {
  float scale;     // of the codes
  float norm;      // |x'|
  float residual;  // |x - x'|
};

/// Of a row whose codes were made of its values undivided, where the row is values / divisor rounded to float32.
CodedNorms coded_norms(const CodedRow& row, int64_t padded_width, double divisor = 1);

/// Of a query of the norm |q|.
struct QueryWeights {
  float residual_weight, norm_weight;
};
QueryWeights query_weights(const CodedNorms& query, double norm);

}  // namespace vixen
