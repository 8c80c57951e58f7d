#include "search/label_rows.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.hpp"
#include "search/error_bound.hpp"

namespace vixen {
namespace {

constexpr int64_t kChunkRows = 4096;  // widened at a time

}  // namespace

LabelRows::LabelRows(ScaledRows labels, int64_t first_label_id, int64_t rows_of_a_block)
    : rows(std::move(labels)), first_id(first_label_id), block_rows(rows_of_a_block) {
  VIXEN_CHECK(block_rows > 0, "blocks of {} labels", block_rows);
  const int64_t n = rows.size();
  norms.assign(static_cast<size_t>((n + block_rows - 1) / block_rows), 0.0);
  for (int64_t begin = 0; begin < n; begin += kChunkRows) {
    const at::Tensor wide = rows.wide(begin, std::min(kChunkRows, n - begin));
    const RowBounds bounds = row_bounds(wide, wide, "label", first_id + begin);
    for (size_t i = 0; i < bounds.norm.size(); ++i) {
      double& norm = norms[static_cast<size_t>((begin + static_cast<int64_t>(i)) / block_rows)];
      norm = std::max(norm, bounds.norm[i]);
    }
  }
}

}  // namespace vixen
