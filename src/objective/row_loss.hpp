// Parts that objectives are made of: the margin loss of rows over their hardest negatives, the hinge, and the mask of
// relevant columns (docs/algorithm.md section 4).
//   scores [R, C]: a row asks, columns answer; K negatives of a row
#pragma once

#include <ATen/core/Tensor.h>

#include "objective/objective.hpp"

namespace vixen {

/// bool [B, M]: true at the pairs. Makes no host sync.
at::Tensor positive_mask(const ObjectiveInput& input);

/// The rows' fixed positives: row i's is column i; -1 from `columns` on.
at::Tensor diagonal_positives(int64_t rows, int64_t columns, const at::TensorOptions& options);

/// Slope of max(0, x): 1 above 0, 0 below; at exactly 0 what loss.tie_gradient says.
at::Tensor hinge_slope(const at::Tensor& x, TieGradient tie);

struct Negatives {
  at::Tensor columns;  // int64 [R, K]
  at::Tensor valid;    // bool [R, K]: a true negative (rows with fewer than K have some that are not)
};
/// The K columns of the highest scores among those that are not relevant.
Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& mask, int64_t k);

struct RowLoss {
  at::Tensor value;  // scalar: mean over the rows (row_loss: over those that have a positive)
  at::Tensor grad;   // [R, C]: d value / d scores
};
/// Section 4, steps 1-5. mask bool [R, C]: relevant columns. positive int64 [R]: the column that is drawn for each row;
/// with `has_gaps` it may be -1, and such a row is left out.
RowLoss row_loss(const at::Tensor& scores, const at::Tensor& mask, const at::Tensor& positive, bool has_gaps,
                 const LossConfig& config);

/// The whole result of an objective whose one term, "loss_u", is a loss of S = q u^T.
ObjectiveResult result_of(const RowLoss& term, const ObjectiveInput& input);

}  // namespace vixen
