// Rows of a data set to unit embeddings, by the rows that each rank owns.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "comm/communicator.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "model/encoder.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// n(h) of this rank's rows of a table of `dataset` (RowShards over all ranks), float32 [local rows, D] on the
/// communicator's device, with a progress bar on rank 0. Queries go without their pictures when data.query_images says
/// so. UserError when the encoder's output is not finite. Collective.
at::Tensor embed_shard(Encoder& encoder, const SequenceTable& table, const Config& config, const Dataset& dataset,
                       Communicator& comm, const std::string& progress_label);

/// The same of `rows` of the table, dealt by RowShards as a table of their own. They begin at a multiple of
/// RowShards::kBlockRows, so that each has the embedding that it has in the whole table. Collective.
at::Tensor embed_part(Encoder& encoder, const SequenceTable& table, RowRange rows, const Config& config,
                      const Dataset& dataset, Communicator& comm, const std::string& progress_label);

}  // namespace vixen
