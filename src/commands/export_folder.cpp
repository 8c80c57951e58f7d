#include "commands/export_folder.hpp"

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "commands/vixen_encoder_text.hpp"
#include "model/folder_settings.hpp"
#include "model/pack_options.hpp"

namespace vixen {
namespace {

using Json = nlohmann::ordered_json;

Json piece(const std::string& text, const std::vector<int32_t>& tokens) {
  return {{"text", tokens.empty() ? "" : text}, {"tokens", tokens}};
}

}  // namespace

void write_json(const std::filesystem::path& path, const Json& json) {
  // A template's strings are what the user typed: bytes that are no UTF-8 are replaced, the tokens decide anyway.
  write_text_atomically(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

ModelDescription describe_model(const Config& config, const Encoder& encoder, const Dataset& dataset) {
  ModelDescription description;
  description.model = config.model;
  description.prompt = config.prompt;
  description.pack = pack_options(config, encoder, dataset);
  description.decoder = encoder.traits().is_decoder;
  description.layers = encoder.n_layers();
  description.image_width = image_width(config, dataset);
  description.max_length = dataset.info().max_length;
  return description;
}

void write_loader(const std::filesystem::path& folder, const ModelDescription& description) {
  const auto& [model, prompt, pack, decoder, layers, image_width, max_length] = description;
  const SequenceTemplate& resolved = pack.prompt;
  Json json = {
      {"version", 1},
      {"decoder", decoder},
      {"layers", layers},
      {"max_length", max_length},
      {"bos_token", resolved.bos},
      {"template",
       {{"images_first", resolved.images_first},
        {"text_prefix", piece(prompt.text_prefix, resolved.text_prefix)},
        {"image_prefix", piece(prompt.image_prefix, resolved.image_prefix)},
        {"closing", piece(prompt.closing, resolved.closing)},
        {"text_slots", resolved.text_slots}}},
      {"padded_positions", pack.padded_positions},
      {"mask", description.causal() ? "causal" : "bidirectional"},
      {"pooling", model.pooling == Pooling::kAuto ? "mean" : name_of(model.pooling)},
      {"images", nullptr},
      {"fusion", nullptr},
  };
  if (image_width > 0)
    json["images"] = {{"width", image_width}, {"adapter", name_of(model.image_adapter)}, {"slots", pack.image_slots}};
  if (description.late_fusion()) json["fusion"] = {{"heads", model.fusion_heads}};
  write_text_atomically(folder / "vixen_encoder.py", kVixenEncoderPython);
  write_json(folder / "vixen_config.json", json);
}

void write_readme(const std::filesystem::path& folder, ExportFormat format, const ModelDescription& description) {
  const bool pictures = description.image_width > 0;
  std::string text =
      "---\nlibrary_name: " + std::string(format == ExportFormat::kMerged ? "transformers" : name_of(format)) +
      "\npipeline_tag: sentence-similarity\n---\n\n# An embedding model trained with vixen\n\n";
  text += fmt::format("Turns {} into unit vectors whose inner products rank labels for a query.\n\n",
                      pictures ? fmt::format("text and pictures (rows of {} numbers from a frozen vision model)",
                                             description.image_width)
                               : "text");
  const std::string images = pictures ? ", images=[array_of_rows]" : "";
  if (format == ExportFormat::kSentenceTransformers && is_plain(description)) {
    text +=
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        "SentenceTransformer(\"THIS_FOLDER\").encode([\"a text\"])\n```\n";
  } else if (format == ExportFormat::kSentenceTransformers) {
    text +=
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        "model = SentenceTransformer(\"THIS_FOLDER\", trust_remote_code=True)  # runs vixen_encoder.py of this folder\n"
        "model.encode([\"a text\"" +
        std::string(pictures ? ", {\"text\": \"a text\", \"images\": array_of_rows}" : "") + "])\n```\n";
  } else {
    text +=
        "```python\nfrom vixen_encoder import VixenEncoder  # the file in this folder\n\n"
        "VixenEncoder.from_pretrained(\"THIS_FOLDER\").encode([\"a text\"]" +
        images + ")\n```\n";
  }
  if (format == ExportFormat::kPeft)
    text +=
        "\nThe adapter alone loads with `PeftModel.from_pretrained` on the base model that adapter_config.json names "
        "(`VixenEncoder.from_pretrained(..., base=FOLDER)` takes it from elsewhere).\n";
  text += fmt::format("\nvixen_config.json holds the prompt around {}, its token ids, the order, mask and pooling.\n",
                      pictures ? "text and pictures" : "the text");
  write_text_atomically(folder / "README.md", text);
}

bool is_plain(const ModelDescription& d) {
  const SequenceTemplate& prompt = d.pack.prompt;
  return !d.decoder && d.image_width == 0 && !d.late_fusion() && !d.causal() && prompt.prompt_tokens() == 0 &&
         d.model.pooling != Pooling::kLastToken && !d.pack.padded_positions;
}

}  // namespace vixen
