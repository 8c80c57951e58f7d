// How a configuration packs sequences for its encoder: pictures, prompt, numbering. One place for training, evaluation,
// prediction and embedding.
#pragma once

#include <cstdint>

#include "config/config.hpp"
#include "data/packed_batch.hpp"
#include "model/encoder.hpp"

namespace vixen {

/// I, the width of picture embeddings that the encoder shall take; 0: none. It is that of the image projection beside
/// the adapter or the model where there is one (also for a data set without pictures: late fusion acts on text alone
/// too), else the data set's. UserError when the two contradict.
int64_t image_width(const Config& config, const Dataset& dataset);

/// Options of inference: the template resolved against the data set's prompts, every picture given.
PackOptions pack_options(const Config& config, const Encoder& encoder, const Dataset& dataset);

/// The same for queries that are answered: data.query_images decides about their pictures.
PackOptions query_pack_options(const Config& config, const Encoder& encoder, const Dataset& dataset);

/// Options of a training step: those of inference plus image dropout, keyed by seed and step.
PackOptions training_pack_options(PackOptions pack, const TrainConfig& config, uint64_t step);

}  // namespace vixen
