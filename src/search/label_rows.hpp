// The label side as the exact searches read it.
#pragma once

#include <cstdint>
#include <vector>

#include "search/scaled_rows.hpp"

namespace vixen {

struct LabelRows {
  /// Reads every row once: one that is not finite, or whose norm is above 1e18, is a UserError.
  LabelRows(ScaledRows labels, int64_t first_label_id, int64_t rows_of_a_block);

  ScaledRows rows;            // [n, D]
  int64_t first_id;           // of row 0
  int64_t block_rows;         // labels of a block
  std::vector<double> norms;  // the largest |row| of each block
};

}  // namespace vixen
