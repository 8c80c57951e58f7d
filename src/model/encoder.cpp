// From a Hugging Face folder to an encoder.
#include "model/encoder.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/sha256.hpp"
#include "base/text.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/bert/bert_encoder.hpp"
#include "model/decoder/decoder_encoder.hpp"
#include "model/weights/folder_settings.hpp"
#include "model/fusion/late_fusion_encoder.hpp"
#include "model/weights/model_json.hpp"

namespace vixen {
namespace {

// model_type of config.json, one that we know.
std::string model_type(const ModelConfig& model) {
  const JsonObject json = JsonObject::of_model(model.path);
  const std::string type = json.text("model_type", "");
  if (type != "bert" && type != "distilbert" && !is_decoder(type))
    fail_user("{}: model_type is '{}', expected one of: bert, distilbert, {}", json.file(), shown(type),
              decoder_types());
  return type;
}

// The backbone with early fusion, or text alone.
std::unique_ptr<Encoder> make_backbone(const EncoderOptions& options, ParameterStore& store) {
  if (is_decoder(model_type(options.model)))
    return std::make_unique<DecoderEncoder>(options, read_decoder_config(options.model), store);
  return std::make_unique<BertEncoder>(options, read_bert_config(options.model), store);
}

// UserError at a token that the model's table has no row for. A tokenizer may know more tokens than the table has rows
// (added ones, for which nobody resized the model): only those count that a text uses.
void check_tokens(int64_t rows, const Dataset& dataset, const SequenceTemplate& prompt) {
  const std::string file = shown(dataset.path().string());
  const auto fail = [&](const std::string& where, int64_t token) {
    fail_user(
        "{}: {} uses token {}, the model's table has {} rows (0 to {}): give the model more rows "
        "(resize_token_embeddings of transformers), or prepare the data set with a tokenizer of its size",
        file, where, token, rows, rows - 1);
  };
  for (const auto& [name, piece] :
       {std::pair{"text_prefix", &prompt.text_prefix}, std::pair{"image_prefix", &prompt.image_prefix},
        std::pair{"closing", &prompt.closing}})
    for (const int32_t token : *piece)
      if (token >= rows) fail(fmt::format("template.{}", name), token);
  if (dataset.info().vocabulary <= rows) return;  // no token is as high
  for (const auto& [name, table] : {std::pair{"label", &dataset.labels()}, std::pair{"train", &dataset.train()},
                                    std::pair{"test", &dataset.test()}}) {
    const auto& values = table->tokens.values;
    const auto highest = std::max_element(values.begin(), values.end());
    if (highest == values.end() || *highest < rows) continue;
    const auto& offsets = table->tokens.offsets;
    const auto row = std::upper_bound(offsets.begin(), offsets.end(), highest - values.begin()) - offsets.begin() - 1;
    fail(fmt::format("{} row {} (\"{}\")", name, row, shown(table->text(row), 60)), *highest);
  }
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
  if (settled.model.pooling == Pooling::kAuto) settled.model = with_folder_settings(options.model, options.lora);
  if (settled.model.fusion == Fusion::kEarly) return make_backbone(settled, store);
  EncoderOptions text = settled;
  text.image_width = 0;
  auto backbone = make_backbone(text, store);
  return std::make_unique<LateFusionEncoder>(settled, std::move(backbone), store);
}

void check_fits(const Encoder& encoder, const Dataset& dataset, const PackOptions& pack) {
  check_tokens(encoder.vocabulary(), dataset, pack.prompt);
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
