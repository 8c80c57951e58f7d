// Parts that objectives are made of: the margin loss of rows over their hardest negatives, and the hinge
// (docs/algorithm.md section 4).
//   scores [R, C]: a row asks, columns answer; K negatives of a row
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "config/config.hpp"
#include "objective/term.hpp"

namespace vixen {

/// Slope of max(0, x): 1 above 0, 0 below; at exactly 0 what loss.tie_gradient says.
at::Tensor hinge_slope(const at::Tensor& x, TieGradient tie);

struct Negatives {
  at::Tensor columns;  // int64 [R, K]
  at::Tensor valid;    // bool [R, K]: a true negative (rows with fewer than K have some that are not)
};
/// The K columns of the highest scores among those that are not relevant.
Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& mask, int64_t k);

/// What a term keeps of a row's negatives, columns and slopes, and of its positive.
inline int64_t kept_negatives_bytes(const LossConfig& config) {
  return (config.negatives + 1) * 12;
}

/// Section 4, steps 1-5, of the one matrix that `spec` reads: the mean over the rows that have a positive.
/// What it costs is filled in.
std::unique_ptr<Term> row_loss_term(TermSpec spec, const LossConfig& config);

}  // namespace vixen
