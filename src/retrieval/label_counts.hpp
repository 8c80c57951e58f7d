// How often each label is asked for in training.
#pragma once

#include "comm/node_array.hpp"
#include "data/dataset.hpp"

namespace vixen {

/// Training queries of each label [L]. Collective.
NodeArray<int64_t> label_counts(const Dataset& dataset, Communicator& comm);

}  // namespace vixen
