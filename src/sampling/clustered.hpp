// Batches of neighbours: the order of queries by cluster.
#pragma once

#include <cstdint>
#include <span>

namespace vixen {

/// Clusters in shuffled order, the queries of a cluster by row number. leaf [N]: the cluster of each query;
/// order [N]. Keyed by (seed, epoch). Local.
void fill_clustered_order(std::span<const int32_t> leaf, uint64_t seed, uint64_t epoch, std::span<int64_t> order);

}  // namespace vixen
