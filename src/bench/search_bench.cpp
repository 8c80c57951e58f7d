#include "bench/search_bench.hpp"

#include <ATen/ATen.h>

#include "retrieval/embed.hpp"

namespace vixen {

SearchTiming bench_search(Encoder& encoder, const Dataset& dataset, const Config& config, Communicator& comm) {
  const auto labels = embed_shard(encoder, dataset.labels(), config, dataset, comm, "encode labels");
  Retriever retriever(encoder, dataset, labels, config, comm);
  retriever.retrieve(dataset.test(), config.search.k);
  SearchTiming timing;
  timing.report = retriever.report();
  const auto queries = static_cast<double>(dataset.test().size());
  timing.queries_per_s = queries / timing.report.search_seconds;
  timing.flops =
      2 * queries * static_cast<double>(dataset.labels().size() * labels.size(1)) / timing.report.search_seconds;
  return timing;
}

}  // namespace vixen
