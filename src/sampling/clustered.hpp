// Batches of neighbours: the order of queries by cluster.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vixen {

/// Clusters in shuffled order, the queries of a cluster by row number. leaves: int32 [N] host, the cluster of each
/// query. Keyed by (seed, epoch). Local.
std::vector<int64_t> clustered_order(const at::Tensor& leaves, uint64_t seed, uint64_t epoch);

}  // namespace vixen
