#include "model/layered_encoder.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "base/file.hpp"
#include "model/adapters/adapter_files.hpp"

namespace vixen {
namespace {

// A file of a saved model; Hugging Face's default too.
constexpr int64_t kShardBytes = 5'000'000'000;

}  // namespace

void BackboneEncoder::add_image_adapter() {
  if (options_.image_width > 0)
    images_ =
        std::make_unique<ImageAdapter>(options_.model, options_.image_width, width(), options_.trainable, *store_);
}

void BackboneEncoder::check_images(const PackedBatch& batch) const {
  VIXEN_CHECK(batch.n_images() == 0 || images_ != nullptr, "pictures in a batch of an encoder without image adapter");
}

bool BackboneEncoder::wants_embedding_gradient(const PackedBatch& batch, int word) const {
  return store_->trained(word) || (batch.n_images() > 0 && store_->trained(images_->first_parameter()));
}

void BackboneEncoder::check_weights() const {
  check_backbone(backbone(), prefixes(), options_.model.path);
}

void BackboneEncoder::load_weights(uint64_t seed) {
  load_backbone(backbone(), first_, prefixes(), options_.model.path, *store_);
  if (!options_.lora.adapter.empty())
    load_adapter(options_.lora.adapter, linears(), *store_);
  else
    for (const AdaptedLinear* linear : linears()) initialise_lora(*linear, seed, *store_);
  if (images_ != nullptr) images_->load(options_.folders(), seed);
  store_->refresh_compute();
}

void BackboneEncoder::save(const std::filesystem::path& folder) const {
  if (options_.lora.rank == 0) return save_merged(folder, at::kFloat, kShardBytes);
  make_folder(folder);
  if (images_ != nullptr) images_->save(folder);
  copy_tokenizer(options_.model.path, folder);
  // PEFT looks for the base where this says: from any working directory.
  save_adapter(folder, options_.lora, std::filesystem::absolute(options_.model.path).lexically_normal().string(),
               linears(), *store_);
}

void BackboneEncoder::save_merged(const std::filesystem::path& folder, at::ScalarType dtype,
                                  int64_t max_shard_bytes) const {
  VIXEN_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "weights are not saved as {}", c10::toString(dtype));
  make_folder(folder);
  const auto parameters = backbone();
  std::vector<const AdaptedLinear*> linear_of(parameters.size(), nullptr);
  for (const AdaptedLinear* linear : linears()) linear_of.at(static_cast<size_t>(linear->weight - first_)) = linear;
  save_backbone(
      parameters,
      [&](size_t i) {
        return linear_of[i] != nullptr ? merged_weight(*store_, *linear_of[i])
                                       : store_->value(first_ + static_cast<int>(i));
      },
      dtype, max_shard_bytes, folder);
  if (images_ != nullptr) images_->save(folder);
  copy_tokenizer(options_.model.path, folder);
  // Last, so that a folder with a config is whole.
  write_text_atomically(folder / "config.json", config_text(dtype == at::kFloat ? "float32" : "bfloat16"));
}

}  // namespace vixen
