// Label centroids from the bank of query embeddings: c_l = mean of the unit embeddings of the training queries of l.
#pragma once

#include "comm/sharded_table.hpp"
#include "data/pairs.hpp"

namespace vixen {

/// Fills this rank's rows of `centroids` [L, D] from `bank` [N, D] (unit rows). queries_of_label: row i lists the
/// training queries of this rank's label i, ascending; a label without any gets 0. The mean is not re-normalised. Rows
/// are fetched in blocks (bounded memory) and summed in query order, so the result does not depend on the world size.
/// Collective.
void update_centroids(ShardedTable& centroids, const ShardedTable& bank, const Ragged<int32_t>& queries_of_label,
                      Communicator& comm);
/// Bytes that it holds at its fullest beyond the tables.
int64_t update_centroids_bytes(int64_t n_queries, int64_t width, int64_t world_size);

}  // namespace vixen
