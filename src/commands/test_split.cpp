// Retrieve, measure.
#include "commands/test_split.hpp"

#include <ATen/ATen.h>

#include "commands/query_bank.hpp"
#include "retrieval/retriever.hpp"

namespace vixen {

std::map<std::string, double> evaluate_test_split(Encoder& encoder, const at::Tensor& labels, const Dataset& dataset,
                                                  const Config& config, Communicator& comm,
                                                  std::vector<Metrics::Bin>* bins) {
  Retriever retriever(encoder, dataset, labels, config, comm);
  if (augments(config.augment)) augment_by_training_queries(retriever, config, dataset, comm);
  // The authors' code cuts the list first and drops filter pairs from what is left: evaluate_predictions does that.
  const bool official = config.evaluate.filter == FilterMode::kOfficial;
  const auto predictions =
      retriever.retrieve(dataset.test(), ranking_length(config), official ? nullptr : &dataset.test_filter());
  const auto range = RowShards(dataset.test().size(), comm.world_size()).range(comm.rank());
  auto metrics = evaluate_predictions(predictions, range, dataset, config, comm, bins);
  if (const auto& report = retriever.report(); report.recall) {
    metrics["search_recall"] = 100 * *report.recall;
    metrics["search_recall_queries"] = static_cast<double>(report.recall_queries);
    metrics["search_index_bytes"] = static_cast<double>(report.index_bytes);
    metrics["search_build_seconds"] = report.build_seconds;
  }
  return metrics;
}

}  // namespace vixen
