// From a Hugging Face folder to an encoder and its weights.
#include "model/encoder.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cmath>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/sha256.hpp"
#include "model/bert_config.hpp"
#include "model/bert_encoder.hpp"
#include "model/initialise.hpp"
#include "model/safetensors.hpp"

namespace vixen {
namespace {

constexpr const char* kImageWeight = "image_projection.weight";
constexpr const char* kImageBias = "image_projection.bias";

// Checkpoints converted from TensorFlow name a norm's weight gamma and its bias beta.
std::string old_norm_name(const std::string& name) {
  const auto renamed = [&](const std::string& ending, const std::string& old) {
    return name.substr(0, name.size() - ending.size()) + old;
  };
  if (name.ends_with("LayerNorm.weight")) return renamed("weight", "gamma");
  if (name.ends_with("LayerNorm.bias")) return renamed("bias", "beta");
  return name;
}

// Copies the file's tensor into `target`; UserError when missing, of another shape or not a float.
void load_tensor(const SafetensorsFile& file, const std::string& path, const std::string& name, at::Tensor target) {
  const at::Tensor tensor = file.tensor(name);
  if (tensor.sizes() != target.sizes())
    fail_user("{}: tensor {} has shape {}, expected {} as config.json says", path, name, tensor.sizes().vec(),
              target.sizes().vec());
  const auto dtype = tensor.scalar_type();
  if (dtype != at::kFloat && dtype != at::kHalf && dtype != at::kBFloat16 && dtype != at::kDouble)
    fail_user("{}: tensor {} has dtype {}, expected float32, float16 or bfloat16", path, name, c10::toString(dtype));
  target.copy_(tensor);
}

}  // namespace

std::unique_ptr<Encoder> make_encoder(const EncoderOptions& options, ParameterStore& store) {
  return std::make_unique<BertEncoder>(options, read_bert_config(options.model), store);
}

void check_fits(const Encoder& encoder, const Dataset& dataset, bool images) {
  const auto& info = dataset.info();
  if (info.vocabulary > encoder.vocabulary())
    fail_user("{}: token ids up to {}, the model has a vocabulary of {}", dataset.path().string(), info.vocabulary - 1,
              encoder.vocabulary());
  const int64_t longest = info.max_length + (images ? info.max_images : 0);
  if (longest > encoder.max_positions())
    fail_user("{}: sequences of up to {} positions, the model has {}: prepare the data set with a smaller --max-length",
              dataset.path().string(), longest, encoder.max_positions());
}

void load_encoder_weights(const EncoderOptions& options, ParameterStore& store, uint64_t seed) {
  const BertConfig config = read_bert_config(options.model);
  const std::filesystem::path folder = options.model.path;
  const std::string path = (folder / "model.safetensors").string();
  const SafetensorsFile file(path);
  const auto find_name = [&](const std::string& name) {
    for (const std::string& prefix : {std::string(), checkpoint_prefix(config)})
      for (const std::string& candidate : {prefix + name, prefix + old_norm_name(name)})
        if (file.contains(candidate)) return candidate;
    fail_user("{}: tensor {} is missing (with or without the prefix {})", path, name, checkpoint_prefix(config));
  };
  for (const auto& parameter : backbone_parameters(config)) {
    const int index = store.find(parameter.name);
    VIXEN_CHECK(index >= 0, "parameter {} is not registered", parameter.name);
    const auto parts = store.value(index).chunk(static_cast<int64_t>(parameter.tensors.size()), 0);
    for (size_t i = 0; i < parts.size(); ++i) load_tensor(file, path, find_name(parameter.tensors[i]), parts[i]);
  }

  if (options.image_width > 0) {
    const int weight = store.find(kImageWeight), bias = store.find(kImageBias);
    VIXEN_CHECK(weight >= 0 && bias >= 0, "the image projection is not registered");
    const auto projection_path = folder / "image_projection.safetensors";
    if (std::filesystem::exists(projection_path)) {
      const SafetensorsFile projection(projection_path);
      load_tensor(projection, projection_path.string(), kImageWeight, store.value(weight));
      load_tensor(projection, projection_path.string(), kImageBias, store.value(bias));
    } else {
      const double bound = 1 / std::sqrt(static_cast<double>(options.image_width));
      fill_uniform(store, weight, bound, seed);
      fill_uniform(store, bias, bound, seed);
    }
  }
  store.refresh_compute();
}

std::string tokenizer_sha256(const std::filesystem::path& folder) {
  const MappedFile file(folder / "tokenizer.json");
  return sha256(file.bytes());
}

}  // namespace vixen
