#include "search/int8_bound.hpp"

#include <cmath>

namespace vixen {
namespace {

/// The float above a number that float64 arithmetic may have rounded.
float upwards(double value) {
  return static_cast<float>(value * (1 + 0x1p-20));
}

}  // namespace

CodedNorms coded_norms(const CodedRow& row, int64_t padded_width, double divisor) {
  // The squares were summed in float32: at most `terms` roundings of 2^-24; each square, and each error before, may
  // have lost 2^-126 to underflow.
  const auto terms = static_cast<double>(padded_width + 16);
  const double sum = (static_cast<double>(row.error_squares) + terms * 0x1p-125) * (1 + terms * 0x1p-23);
  const double norm = static_cast<double>(row.scale) * std::sqrt(static_cast<double>(row.code_squares));
  // An error was rounded after its product s c was: 2^-24 of |x'| and of itself.
  const double residual = (std::sqrt(sum) + 0x1p-23 * norm) * (1 + 0x1p-22);
  if (divisor == 1) return {row.scale, upwards(norm), upwards(residual)};
  // The row is x / divisor and a rounding of 2^-24 |x| / divisor; so is the scale.
  const auto scale = static_cast<float>(static_cast<double>(row.scale) / divisor);
  return {scale, upwards(norm / divisor),
          upwards((residual + 0x1p-22 * (norm + residual)) / divisor + terms * 0x1p-126)};
}

QueryWeights query_weights(const CodedNorms& query, double norm) {
  norm += 0x1p-110;  // denormals that one thread flushes and another does not
  const double weight = static_cast<double>(query.residual) + 0x1p-20 * (static_cast<double>(query.norm) + norm);
  return {static_cast<float>(norm * (1 + 0x1p-19)), static_cast<float>(weight * (1 + 0x1p-19))};
}

}  // namespace vixen
