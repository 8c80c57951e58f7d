// Search over labels that are dealt to ranks by rows.
#pragma once

#include <cstdint>
#include <string>

#include "comm/communicator.hpp"
#include "search/index.hpp"

namespace vixen {

/// Queries that a rank contributes to a round of a search: so many that the lists of a round, all ranks' ids and scores
/// as found and as merged (list_bytes), stay within 256 MiB, and search.block_queries at most.
int64_t queries_a_round(int64_t block_queries, int64_t k, int64_t world_size);
/// Bytes of the lists of a round of so many queries a rank.
int64_t list_bytes(int64_t queries, int64_t k, int64_t world_size);

/// `index` holds this rank's labels; `queries` [m_r, D] are this rank's queries (m_r may differ). Every rank gets the
/// global top k of its own queries. Queries travel in blocks of at most `block_queries` a rank, which bounds memory.
/// progress_label: of the bar on rank 0; empty: none. Collective.
TopK sharded_search(const Index& index, const at::Tensor& queries, int64_t k, int64_t block_queries, Communicator& comm,
                    const std::string& progress_label = {});

}  // namespace vixen
