// What the exact search runs on a device between its products: checks, and the choice of kernels.search between CUDA
// forms and references, as kernels/dispatch.hpp for the encoders' kernels.
//   m queries of a block, n labels of the shard, D columns, c labels of a tile
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "search/device_candidates.hpp"
#include "search/device_table.hpp"

namespace vixen {

/// What every tile of a search is filtered with; on the device.
struct FilterBounds {
  at::Tensor weights;  // float32 [m, 3]: BoundWeights
  at::Tensor labels;   // float32 [n, 2]: LabelBound
  at::Tensor groups;   // float32 [ceil(n / kGroupLabels), 2]
  float relative;      // of the product's own rounding
};

/// A tile of scores: bfloat16 [m, c] of labels first_label .., rows at a stride that is a multiple of 8, in a tensor
/// that begins at a multiple of 16 bytes.
struct ScoreTile {
  at::Tensor scores;
  int64_t first_label;  // a multiple of kGroupLabels
};

/// Appends the labels of a tile whose upper bounds reach their query's threshold, in ascending order. Queries with more
/// than `limit` >= k candidates first keep at most `limit`: those that the bounds cannot drop or, where these are too
/// many, the k best by canonical scores. limit + c places must be there. may_exceed: whether a query may have more than
/// `limit`. queries float32 [m, D]; rows of all candidates that are not exact are in `part`. The host does not wait.
void filter_scores(DeviceCandidates& candidates, const ScoreTile& tile, const FilterBounds& bounds,
                   const at::Tensor& queries, const DevicePart& part, int64_t limit, bool may_exceed);

/// The k best of each query's candidates by canonical scores, or all where there are fewer; all of them exact, in the
/// order in which they came.
void settle_candidates(DeviceCandidates& candidates, const at::Tensor& queries, const DevicePart& part);

/// Canonical dot products of rows a [m, D] and b [m, D], float32 on one device, not a CPU -> float32 [m].
at::Tensor canonical_dots(const at::Tensor& a, const at::Tensor& b);

/// For tests: the search's kernels of the device that lend_kernels (kernels/cuda_kernels.hpp) names; null: none. Not
/// thread-safe.
void lend_search_kernels(const SearchTable* table);

namespace reference {

// The same in ATen operations. What a kernel looks at for one query is computed for all, and then chosen, so that the
// host never waits: where may_exceed, canonical scores of all candidates of all queries.
void filter_scores(DeviceCandidates& candidates, const ScoreTile& tile, const FilterBounds& bounds,
                   const at::Tensor& queries, const DevicePart& part, int64_t limit, bool may_exceed);
void settle_candidates(DeviceCandidates& candidates, const at::Tensor& queries, const DevicePart& part);

/// Canonical dot products in the order of ScanKernels::dot, on any device. a, b: float32 [..., D], broadcast; ->
/// float32 [...].
at::Tensor canonical_dot(const at::Tensor& a, const at::Tensor& b);

}  // namespace reference
}  // namespace vixen
