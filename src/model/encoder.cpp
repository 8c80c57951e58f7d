// From a Hugging Face folder to an encoder.
#include "model/encoder.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/sha256.hpp"
#include "model/adapter_files.hpp"
#include "model/bert_encoder.hpp"
#include "model/decoder_encoder.hpp"
#include "model/late_fusion_encoder.hpp"
#include "model/model_json.hpp"

namespace vixen {
namespace {

// model_type of config.json, one that we know.
std::string model_type(const ModelConfig& model) {
  const JsonObject json = JsonObject::of_model(model.path);
  const std::string type = json.text("model_type", "");
  if (type != "bert" && type != "distilbert" && !is_decoder(type))
    fail_user("{}: model_type is '{}', expected one of: bert, distilbert, {}", json.file(), type, decoder_types());
  return type;
}

// The backbone with early fusion, or text alone.
std::unique_ptr<Encoder> make_backbone(const EncoderOptions& options, ParameterStore& store) {
  if (is_decoder(model_type(options.model)))
    return std::make_unique<DecoderEncoder>(options, read_decoder_config(options.model), store);
  return std::make_unique<BertEncoder>(options, read_bert_config(options.model), store);
}

}  // namespace

std::vector<std::filesystem::path> EncoderOptions::folders() const {
  std::vector<std::filesystem::path> folders = {model.path};
  if (!lora.adapter.empty()) folders.insert(folders.begin(), lora.adapter);
  return folders;
}

std::unique_ptr<Encoder> make_encoder(const EncoderOptions& options, ParameterStore& store) {
  EncoderOptions settled = options;
  settled.lora = with_adapter_settings(options.lora);
  if (settled.model.fusion == Fusion::kEarly) return make_backbone(settled, store);
  EncoderOptions text = settled;
  text.image_width = 0;
  auto backbone = make_backbone(text, store);
  return std::make_unique<LateFusionEncoder>(settled, std::move(backbone), store);
}

void check_fits(const Encoder& encoder, const Dataset& dataset, const PackOptions& pack) {
  const auto& info = dataset.info();
  int64_t last_token = info.vocabulary - 1;
  for (const auto* piece : {&pack.prompt.text_prefix, &pack.prompt.image_prefix, &pack.prompt.closing})
    for (const int32_t token : *piece) last_token = std::max<int64_t>(last_token, token);
  if (last_token >= encoder.vocabulary())
    fail_user("{}: token ids up to {}, the model has a vocabulary of {}", dataset.path().string(), last_token,
              encoder.vocabulary());
  const int64_t longest = longest_sequence(dataset, pack);
  if (longest > encoder.max_positions())
    fail_user("{}: sequences of up to {} positions, the model has {}: prepare the data set with a smaller --max-length",
              dataset.path().string(), longest, encoder.max_positions());
}

std::string tokenizer_sha256(const std::filesystem::path& folder) {
  const MappedFile file(folder / "tokenizer.json");
  return sha256(file.bytes());
}

}  // namespace vixen
