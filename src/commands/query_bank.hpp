// The embeddings of a run's training queries, kept with its model: who answers with them need not encode them again.
#pragma once

#include <filesystem>

#include "comm/communicator.hpp"
#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "retrieval/retriever.hpp"

namespace vixen {

/// Writes `bank` [N, D] to a file of RUN/model. Collective.
void write_query_bank(const std::filesystem::path& file, const ShardedTable& bank, const Dataset& dataset,
                      Communicator& comm);

/// Retriever::augment with the run's bank, if it has one of just these training queries, as they are encoded now;
/// otherwise the queries are encoded. Collective.
void augment_by_training_queries(Retriever& retriever, const Config& config, const Dataset& dataset,
                                 Communicator& comm);

}  // namespace vixen
