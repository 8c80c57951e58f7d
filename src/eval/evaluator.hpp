// From ranked labels of the test queries, spread over ranks, to the metrics of the whole test split.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/node_array.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "eval/metrics.hpp"
#include "search/top_k.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Inverse propensities of the labels [L], from training counts and the constants of data.* (or the data set's).
/// Collective.
NodeArray<double> label_weights(const Config& config, const Dataset& dataset, Communicator& comm);

/// The longest ranking that metrics look at, and hence how many labels to retrieve: evaluate.k, at least the 100 of
/// R@100.
int64_t ranking_length(const Config& config);

/// Metrics (percentages; plus "queries" and "labels") of predictions whose rows are this rank's test queries
/// `local_queries`. bins, when given, receives the deciles of label frequency. Collective.
std::map<std::string, double> evaluate_predictions(const TopK& local_predictions, RowRange local_queries,
                                                   const Dataset& dataset, const Config& config, Communicator& comm,
                                                   std::vector<Metrics::Bin>* bins);

/// Console tables: P, R, nDCG, PSP, PSnDCG by k and the single figures; the deciles of label frequency.
std::string metrics_table(const std::map<std::string, double>& metrics);
std::string bins_table(const std::vector<Metrics::Bin>& bins);

/// metrics.json: one flat object. Atomic.
void write_metrics_json(const std::filesystem::path& path, const std::map<std::string, double>& metrics);

}  // namespace vixen
