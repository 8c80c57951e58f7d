#include "data/pairs.hpp"

#include <algorithm>
#include <vector>

#include "base/check.hpp"

namespace vixen {

OwnedRagged transpose(const Ragged<int32_t>& rows, RowRange columns) {
  // Counting sort: rows are read in order, hence every column's rows come out ascending.
  OwnedRagged result;
  result.offsets.assign(static_cast<size_t>(columns.size()) + 1, 0);
  for (const int32_t column : rows.values)
    if (columns.contains(column)) ++result.offsets[static_cast<size_t>(column - columns.begin) + 1];
  for (size_t i = 1; i < result.offsets.size(); ++i) result.offsets[i] += result.offsets[i - 1];
  result.values.resize(static_cast<size_t>(result.offsets.back()));
  std::vector<int64_t> next(result.offsets.begin(), result.offsets.end() - 1);
  for (int64_t row = 0; row < rows.size(); ++row)
    for (const int32_t column : rows[row])
      if (columns.contains(column))
        result.values[static_cast<size_t>(next[static_cast<size_t>(column - columns.begin)]++)] =
            static_cast<int32_t>(row);
  return result;
}

void count_columns(const Ragged<int32_t>& rows, std::span<int64_t> counts) {
  std::fill(counts.begin(), counts.end(), 0);
  for (const int32_t column : rows.values) {
    VIXEN_CHECK(column >= 0 && column < std::ssize(counts), "column {} of {}", column, counts.size());
    ++counts[static_cast<size_t>(column)];
  }
}

}  // namespace vixen
