// Relevant pairs of queries and labels, looked at from the labels.
#pragma once

#include <cstdint>
#include <span>

#include "data/dataset.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Rows and columns exchanged, for a range of columns: row i of the result lists the rows that hold column
/// columns.begin + i, ascending.
OwnedRagged transpose(const Ragged<int32_t>& rows, RowRange columns);

/// How many rows hold each column: counts[c] for c in [0, counts.size()).
void count_columns(const Ragged<int32_t>& rows, std::span<int64_t> counts);

}  // namespace vixen
