// Batches of few shapes, for passes that are recorded: sequences of filler behind those of a batch, so that its sizes
// are those of others.
#pragma once

#include <compare>
#include <cstdint>

#include "data/packed_batch.hpp"

namespace vixen {

/// Shapes whose recordings are kept.
inline constexpr int64_t kMostRecordings = 8;

/// What a recorded pass is of; two batches of one shape enqueue the same work.
struct GraphShape {
  int64_t positions = 0, sequences = 0, images = 0;
  int64_t longest = 0;  // at least that of any sequence

  auto operator<=>(const GraphShape&) const = default;
};

/// The shape that a batch with sequences is filled up to: positions in multiples of `bucket`, pictures and the longest
/// sequence in coarse steps, the latter at most `max_positions`. Sequences: as many more for every batch.
GraphShape graph_shape(const PackedBatch& batch, int64_t bucket, int64_t max_positions);

/// At most so many positions more than a batch has, for plans.
int64_t most_filler(int64_t bucket, int64_t max_positions);

/// The batch with filler, on the host. The first n sequences are its own; pictures of filler are zeros.
PackedBatch fill_batch(const PackedBatch& batch, const GraphShape& shape);

}  // namespace vixen
