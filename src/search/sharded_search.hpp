// Search over labels that are dealt to ranks by rows.
#pragma once

#include <string>

#include "comm/communicator.hpp"
#include "search/index.hpp"

namespace vixen {

/// `index` holds this rank's labels; `queries` [m_r, D] are this rank's queries (m_r may differ). Every rank gets the
/// global top k of its own queries. Queries travel in blocks of at most `block_queries` a rank, which bounds memory.
/// progress_label: of the bar on rank 0; empty: none. Collective.
TopK sharded_search(const Index& index, const at::Tensor& queries, int64_t k, int64_t block_queries, Communicator& comm,
                    const std::string& progress_label = {});

}  // namespace vixen
