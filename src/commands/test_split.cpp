// Encode, search, measure.
#include "commands/test_split.hpp"

#include <ATen/ATen.h>

#include "commands/common.hpp"
#include "search/exact_search.hpp"

namespace vixen {

std::map<std::string, double> evaluate_test_split(Encoder& encoder, const at::Tensor& labels, const Dataset& dataset,
                                                  const Config& config, Communicator& comm,
                                                  std::vector<Metrics::Bin>* bins) {
  const auto queries = embed_shard(encoder, dataset.test(), config, dataset, comm, "encode test queries");
  const auto options = search_options(config, search_width(dataset, config), comm.rank() == 0);
  const RowShards label_shards(dataset.labels().size(), comm.world_size());
  const LabelIndex index(labels, label_shards.range(comm.rank()).begin, options);
  const auto predictions = sharded_search(index, queries, options, comm);
  const auto range = RowShards(dataset.test().size(), comm.world_size()).range(comm.rank());
  return evaluate_predictions(predictions, range, dataset, config, comm, bins);
}

}  // namespace vixen
