// Packing options from configuration, encoder and data set.
#include "model/pack_options.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "model/encoder_options.hpp"
#include "model/fusion/image_adapter.hpp"

namespace vixen {
int64_t image_width(const Config& config, const Dataset& dataset) {
  if (!config.data.images) return 0;
  const int64_t given = dataset.images().n_rows > 0 ? dataset.images().width : 0;
  for (const auto& folder : EncoderOptions{.model = config.model, .lora = config.lora}.folders()) {
    const int64_t saved = saved_image_width(folder);
    if (saved == 0) continue;
    if (given > 0 && given != saved)
      fail_user("{}: picture embeddings are {} wide, {} maps {}: embed the pictures with the same model",
                dataset.images().where, given, (folder / kImageAdapterFile).string(), saved);
    return saved;
  }
  return given;
}

PackOptions pack_options(const Config& config, const Encoder& encoder, const Dataset& dataset) {
  PackOptions pack;
  pack.images = image_width(config, dataset) > 0;
  pack.padded_positions = config.compat.padded_positions;
  pack.image_slots = dataset.info().max_images;
  pack.prompt = resolve_template(config.prompt, encoder.traits().prompt, pack.images, dataset);
  return pack;
}

PackOptions query_pack_options(const Config& config, const Encoder& encoder, const Dataset& dataset) {
  PackOptions pack = pack_options(config, encoder, dataset);
  pack.withhold_images = !config.data.query_images;
  return pack;
}

PackOptions training_pack_options(PackOptions pack, const TrainConfig& config, uint64_t step) {
  pack.image_dropout = config.image_dropout;
  pack.seed = config.seed;
  pack.step = step;
  return pack;
}

}  // namespace vixen
