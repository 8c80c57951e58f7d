// Packing options from configuration, encoder and data set.
#include "train/pack_options.hpp"

#include <ATen/ATen.h>

#include <filesystem>

#include "base/check.hpp"
#include "model/safetensors.hpp"

namespace vixen {
namespace {

// Width of the pictures that image_projection.safetensors of a folder maps; 0: no such file.
int64_t saved_image_width(const std::filesystem::path& folder) {
  const auto path = folder / "image_projection.safetensors";
  if (folder.empty() || !std::filesystem::exists(path)) return 0;
  const SafetensorsFile file(path);
  for (const char* name : {"image_projection.weight", "image_projection.0.weight"})
    if (file.contains(name)) return file.tensor(name).size(1);
  fail_user("{}: found neither image_projection.weight nor image_projection.0.weight, expected one", path.string());
}

}  // namespace

int64_t image_width(const Config& config, const Dataset& dataset) {
  if (!config.data.images) return 0;
  const int64_t given = dataset.images().n_rows > 0 ? dataset.images().width : 0;
  for (const std::filesystem::path folder : {config.lora.adapter, config.model.path}) {
    const int64_t saved = saved_image_width(folder);
    if (saved == 0) continue;
    if (given > 0 && given != saved)
      fail_user("{}: picture embeddings are {} wide, {} maps {}: embed the pictures with the same model",
                dataset.images().where, given, (folder / "image_projection.safetensors").string(), saved);
    return saved;
  }
  return given;
}

PackOptions pack_options(const Config& config, const Encoder& encoder, const Dataset& dataset) {
  PackOptions pack;
  pack.images = image_width(config, dataset) > 0;
  pack.padded_positions = config.compat.padded_positions;
  pack.image_slots = dataset.info().max_images;
  pack.prompt = resolve_template(config.prompt, encoder.is_decoder(), pack.images, dataset);
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
