// From a Hugging Face folder to an encoder.
#pragma once

#include <memory>

#include "model/encoder_options.hpp"
#include "model/layered_encoder.hpp"
#include "model/parameters.hpp"

namespace vixen {

/// Reads the folder's config.json (an unknown model_type is a UserError that lists the known ones), takes the settings
/// of lora.adapter, registers parameters in `store`: backbone in forward order (frozen with adapters or for inference),
/// the adapters in forward order, the image adapter, late fusion's block. After store.allocate(), call files().load.
std::unique_ptr<LayeredEncoder> make_encoder(const EncoderOptions& options, ParameterStore& store);

}  // namespace vixen
