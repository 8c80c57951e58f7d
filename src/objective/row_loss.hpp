// A term that objectives are made of: the margin loss of rows over their hardest negatives (docs/algorithm.md section
// 4).
//   scores [R, C]: a row asks, columns answer; K negatives of a row
#pragma once

#include <memory>

#include "config/config.hpp"
#include "objective/device_kernels.hpp"
#include "objective/term.hpp"

namespace vixen {

/// What a term keeps of a row's negatives, columns and slopes, and of its positive.
inline int64_t kept_negatives_bytes(const LossConfig& config) {
  return (config.negatives + 1) * 12;
}

/// Section 4, steps 1-5, of the one matrix that `spec` reads: the mean over the rows that have a positive.
/// What it costs is filled in.
std::unique_ptr<Term> row_loss_term(TermSpec spec, const LossConfig& config);

}  // namespace vixen
