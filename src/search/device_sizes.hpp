// How the exact search on a device cuts its work: a function of settings and of the device's L2 cache, so that memory
// plans know it.
#pragma once

#include <cstdint>

#include "config/config.hpp"

namespace vixen {

/// Blocks of queries against tiles of labels.
struct DeviceSizes {
  int64_t queries;       // of a block
  int64_t labels;        // of a tile, a multiple of kGroupLabels
  int64_t first_labels;  // of the first tile, likewise: just enough for a threshold, which all the others have then
  int64_t limit;         // candidates of a query, beyond which it makes room before the next tile
  int64_t capacity;      // limit + labels: a tile always finds room, whatever its scores
  int64_t part_labels;   // of a part of rows in host memory, likewise
};

/// n labels of D columns, k <= n of them asked for. search.block_queries and search.block_labels are upper limits; a
/// tile of labels, the block of queries and their scores, all in 2 bytes a number, take three quarters of the L2 cache
/// at most, and the candidates of a block 256 MiB.
DeviceSizes device_sizes(const IndexConfig& config, int64_t n, int64_t width, int64_t k, int64_t l2_bytes);

/// Bytes on the device besides the rows: the copy that products read, and bounds. streamed: rows are in host memory,
/// and parts of them on the device only while a search goes on (device_search_bytes).
int64_t device_labels_bytes(int64_t n, int64_t width, bool streamed);
/// Queries whose bounds and rounded rows are on the device at a time where the labels are resident.
inline constexpr int64_t kQueriesAtATime = int64_t{1} << 17;

/// Bytes of a search of m queries while it goes on: bounds of the queries, scores and candidates of a block, and parts
/// of rows that are streamed, which are stored in row_bytes a number; 0: resident. Results are the caller's.
int64_t device_search_bytes(const DeviceSizes& sizes, int64_t m, int64_t k, int64_t width, int64_t row_bytes);

}  // namespace vixen
