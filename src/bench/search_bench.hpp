// What `vixen bench` times of the search: the test queries of a data set among its labels.
#pragma once

#include "comm/communicator.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "model/encoder.hpp"
#include "retrieval/retriever.hpp"

namespace vixen {

struct SearchTiming {
  RetrievalReport report;  // seconds of building and of the search, bytes, recall
  double queries_per_s = 0;
  double flops = 0;  // FLOP/s of comparing every label, over all ranks; for exact methods
};

/// Retrieves the search.k best labels of the test queries by plain embeddings, as search.method says. Collective.
SearchTiming bench_search(Encoder& encoder, const Dataset& dataset, const Config& config, Communicator& comm);

}  // namespace vixen
