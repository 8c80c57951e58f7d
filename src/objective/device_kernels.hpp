// What objectives do with rows of scores: the readable references, and on devices the choice of kernels.objective
// between CUDA forms and them.
//   scores [R, C]: a row asks, columns answer; K negatives of a row
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "config/config.hpp"
#include "objective/device_table.hpp"

namespace vixen {

/// Slope of max(0, x): 1 above 0, 0 below; at exactly 0 what loss.tie_gradient says.
at::Tensor hinge_slope(const at::Tensor& x, TieGradient tie);

struct Negatives {
  at::Tensor columns;  // int64 [R, K], those of a row differ
  at::Tensor valid;    // bool [R, K]: a true negative (rows with fewer than K have some that are not)
};
/// The min(k, C) columns of the highest scores among those that are not relevant (mask bool [R, C]).
Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& mask, int64_t k);

/// The margin losses of rows over their hardest negatives (docs/algorithm.md section 4, steps 1-5).
struct RowLosses {
  at::Tensor columns;         // int64 [R, K]
  at::Tensor slopes;          // [R, K]: of the sum over rows, at the negatives
  at::Tensor positive_slope;  // [R, 1]
  at::Tensor values;          // [R, 1]
};
/// positive int64 [R]; has_gaps: -1 where a row has none, which then does not count.
RowLosses row_losses(const at::Tensor& scores, const at::Tensor& mask, const at::Tensor& positive, bool has_gaps,
                     const LossConfig& config);

/// target[r, columns[r, j]] += values[r, j]. target [R, C] with any strides; columns int64 [R, k], those of a row
/// differ.
void add_entries(at::Tensor target, const at::Tensor& columns, const at::Tensor& values);

/// Whether the CUDA forms run on a device that is no CPU, as kernels.objective and loss.negatives say: for plans.
bool objective_is_fused(const LossConfig& config);

/// For tests: the objective's kernels of the device that lend_kernels (kernels/cuda_kernels.hpp) names; null: none. Not
/// thread-safe.
void lend_objective_kernels(const ObjectiveTable* table);

namespace reference {

// The same in ATen operations; float32 or float64.
Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& mask, int64_t k);
RowLosses row_losses(const at::Tensor& scores, const at::Tensor& mask, const at::Tensor& positive, bool has_gaps,
                     const LossConfig& config);

}  // namespace reference
}  // namespace vixen
