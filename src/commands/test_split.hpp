// Ranking the labels for the test queries: evaluate, and the trainer's own evaluations.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "eval/evaluator.hpp"
#include "model/encoder.hpp"

namespace vixen {

/// Encodes the test queries, retrieves from this rank's labels [local labels, D] as search.method says, and returns the
/// metrics of all queries; of an approximate method also "search_recall" (percent of the exact search's labels that
/// were found, on "search_recall_queries" of the queries), "search_index_bytes" (of a rank) and "search_build_seconds".
/// bins may be null. Collective.
std::map<std::string, double> evaluate_test_split(Encoder& encoder, const at::Tensor& labels, const Dataset& dataset,
                                                  const Config& config, Communicator& comm,
                                                  std::vector<Metrics::Bin>* bins);

}  // namespace vixen
