#include "retrieval/label_counts.hpp"

#include "data/pairs.hpp"

namespace vixen {

NodeArray<int64_t> label_counts(const Dataset& dataset, Communicator& comm) {
  return NodeArray<int64_t>::filled(dataset.labels().size(), comm,
                                    [&](std::span<int64_t> counts) { count_columns(dataset.train_labels(), counts); });
}

}  // namespace vixen
