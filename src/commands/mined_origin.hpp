// What `vixen mine` mines: the checks of what belongs together, and its identity by content.
#pragma once

#include <memory>

#include "commands/mined_summary.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "model/encoder.hpp"

namespace vixen {

/// UserError unless mining.against is labels, or prototypes that the run has for the labels that are searched.
void check_prototypes(const Config& config);

/// The data set of mine.corpus: of the same tokenizer and length of texts as `dataset`, for labels are compared by
/// their tokens, and such that the encoder takes its labels. Null where the key is empty.
std::unique_ptr<Dataset> open_corpus(const Config& config, const Dataset& dataset, const Encoder& encoder);

/// What decides the lists, whatever files are called: the values of all keys that do, and hashes of queries, labels,
/// pictures and weights. Reads what has no stored hash. config: as with_run_settings() gives it. corpus: null, or what
/// is searched instead of the labels of `dataset`. Local.
MinedAttributes mined_origin(const Config& config, const Dataset& dataset, const Dataset* corpus, int world_size);

}  // namespace vixen
