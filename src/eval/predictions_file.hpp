// Ranking files: what `vixen predict` and `vixen search` write, and others may.
#pragma once

#include <cstdint>
#include <filesystem>

#include "search/top_k.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Reads rows `range` of a ranking file (docs/data-format.md): /indices [n_queries, k], label numbers, best first, and
/// /scores of the same shape. UserError naming file, row and label when it is no ranking: another number of rows than
/// `n_queries`, ids that are no whole numbers, not in [0, n_labels) or repeated within a row, a label behind -1 (which
/// ends a row), scores that are not finite or rise along a row. ids int64, scores float32. Local.
TopK read_predictions(const std::filesystem::path& path, RowRange range, int64_t n_queries, int64_t n_labels);

}  // namespace vixen
