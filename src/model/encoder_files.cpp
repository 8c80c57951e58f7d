#include "model/encoder_files.hpp"

#include <ATen/ATen.h>

#include <vector>

#include "base/check.hpp"
#include "base/file.hpp"
#include "model/adapters/adapter_files.hpp"

namespace vixen {
namespace {

// A file of a saved model; Hugging Face's default too.
constexpr int64_t kShardBytes = 5'000'000'000;

}  // namespace

void EncoderFiles::check() const {
  check_backbone(backbone_->weights(), options_->model.path);
}

void EncoderFiles::load(uint64_t seed) const {
  const auto linears = backbone_->linears();
  load_backbone(backbone_->weights(), options_->model.path, *store_);
  if (!options_->lora.adapter.empty())
    load_adapter(options_->lora.adapter, backbone_->weights().prefixes, linears, *store_);
  else
    for (const AdaptedLinear* linear : linears) initialise_lora(*linear, seed, *store_);
  if (images_ != nullptr) images_->load(options_->folders(), seed);
  if (late_ != nullptr) late_->load(options_->folders(), seed);
  backbone_->make_constants();
  store_->refresh_compute();
}

void EncoderFiles::save_pictures(const std::filesystem::path& folder) const {
  if (images_ != nullptr) images_->save(folder);
  if (late_ != nullptr) late_->save(folder);
}

void EncoderFiles::save(const std::filesystem::path& folder) const {
  if (options_->lora.rank == 0) return save_merged(folder, at::kFloat, kShardBytes);
  make_folder(folder);
  save_pictures(folder);
  copy_tokenizer(options_->model.path, folder);
  // Last, so that a folder with a configuration is whole. PEFT looks for the base where this says: from any working
  // directory.
  save_adapter(folder, options_->lora, std::filesystem::absolute(options_->model.path).lexically_normal().string(),
               backbone_->linears(), *store_);
}

void EncoderFiles::save_merged(const std::filesystem::path& folder, at::ScalarType dtype,
                               int64_t max_shard_bytes) const {
  VIXEN_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "weights are not saved as {}", c10::toString(dtype));
  make_folder(folder);
  const BackboneWeights& weights = backbone_->weights();
  std::vector<const AdaptedLinear*> linear_of(weights.parameters.size(), nullptr);
  for (const AdaptedLinear* linear : backbone_->linears())
    linear_of.at(static_cast<size_t>(linear->weight - weights.first)) = linear;
  save_backbone(
      weights.parameters,
      [&](size_t i) {
        return linear_of[i] != nullptr ? merged_weight(*store_, *linear_of[i])
                                       : store_->value(weights.first + static_cast<int>(i));
      },
      dtype, max_shard_bytes, folder);
  save_pictures(folder);
  copy_tokenizer(options_->model.path, folder);
  // Last, so that a folder with a config is whole.
  write_text_atomically(folder / "config.json", backbone_->config_text(dtype == at::kFloat ? "float32" : "bfloat16"));
}

}  // namespace vixen
