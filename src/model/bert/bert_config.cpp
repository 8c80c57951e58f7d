#include "model/bert/bert_config.hpp"

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/json_file.hpp"
#include "base/text.hpp"
#include "model/weights/model_json.hpp"

namespace vixen {
namespace {

void refuse_flag(const JsonObject& json, const char* key) {
  if (json.flag(key, false)) fail_user("{}: {} is true, expected a plain encoder", json.file(), key);
}

}  // namespace

BertConfig read_bert_config(const ModelConfig& model) {
  const JsonObject json = JsonObject::of_model(model.path);
  const std::string& file = json.file();
  const std::string type = json.text("model_type", "");
  const BertVariant* variant = find_variant(kBertVariants, type);
  if (variant == nullptr)
    fail_user("{}: model_type is '{}', expected one of: {}", file, shown(type), types_of(kBertVariants));

  if (model.pooling == Pooling::kLastToken)
    fail_user("model.pooling: last found, expected mean or cls for the {} of {}", type, file);

  if (model.mask == Mask::kCausal)
    fail_user("model.mask: causal found, expected auto or bidirectional for the {} of {}", type, file);

  BertConfig config;
  config.variant = variant;
  const BertKeys& keys = variant->keys;
  const auto key = [](std::string_view name) { return std::string(name); };
  config.width = json.size(key(keys.width));
  config.heads = json.size(key(keys.heads));
  if (config.width % config.heads != 0)
    fail_user("{}: {} is {}, expected a multiple of {} ({})", file, keys.width, config.width, keys.heads, config.heads);
  config.feed_forward = json.size(key(keys.feed_forward));
  config.folder_layers = json.size(key(keys.layers));
  config.vocabulary = json.size("vocab_size");
  config.positions = json.size("max_position_embeddings");
  if (!keys.types.empty()) config.types = json.size(key(keys.types), 2);
  if (!keys.norm_eps.empty()) config.norm_eps = json.fraction(key(keys.norm_eps), config.norm_eps);
  if (const std::string found = json.text(key(keys.activation), "gelu"); found != "gelu")
    fail_user("{}: {} is \"{}\", expected \"gelu\" (the exact one)", file, keys.activation, shown(found));
  if (const std::string found = json.text("position_embedding_type", "absolute"); found != "absolute")
    fail_user("{}: position_embedding_type is \"{}\", expected \"absolute\"", file, shown(found));

  refuse_flag(json, "add_cross_attention");
  if (model.mask == Mask::kAuto && json.flag("is_decoder", false))
    fail_user(
        "{}: is_decoder is true, a model that reads from left to right: give --model.mask bidirectional to read "
        "its weights as an encoder's",
        file);
  if (json.has("quantization_config"))
    fail_user("{}: quantization_config found, expected a model with float weights", file);
  if (json.has("pruned_heads") && !json.json()["pruned_heads"].empty())
    fail_user("{}: pruned_heads is {}, expected a model with all its heads", file,
              shown_json(json.json()["pruned_heads"]));

  config.hidden_dropout = json.fraction(key(keys.hidden_dropout), 0.1);
  config.attention_dropout = json.fraction(key(keys.attention_dropout), 0.1);
  if (model.dropout >= 0) config.hidden_dropout = config.attention_dropout = model.dropout;
  config.out_dropout = variant->drops_attention_output ? config.hidden_dropout : 0;

  check_weight_count(
      file,
      static_cast<double>(config.width) *
          (static_cast<double>(config.vocabulary + config.positions) +
           static_cast<double>(config.folder_layers) * static_cast<double>(4 * config.width + 2 * config.feed_forward)),
      config.folder_layers);
  config.layers = model.layers == 0 ? config.folder_layers : model.layers;
  if (config.layers < 0 || config.layers > config.folder_layers)
    fail_user("model.layers: {} found, expected 0 (all) or at most the {} layers of {}", config.layers,
              config.folder_layers, file);
  return config;
}

std::vector<BackboneParameter> backbone_parameters(const BertConfig& config) {
  const int64_t d = config.width, f = config.feed_forward;
  std::vector<BackboneParameter> list;
  const auto table = [&](const std::string& name, int64_t rows) {
    list.push_back({.name = name, .shape = {rows, d}, .in_products = false, .keep_float32 = true, .tensors = {name}});
  };
  const auto linear = [&](const std::string& module, int64_t outputs, int64_t inputs) {
    list.push_back({.name = module + ".weight", .shape = {outputs, inputs}, .tensors = {module + ".weight"}});
    list.push_back({.name = module + ".bias",
                    .shape = {outputs},
                    .group = ParameterGroup::kBackboneNoDecay,
                    .tensors = {module + ".bias"}});
  };
  const auto norm = [&](const std::string& module, bool in_products) {
    for (const char* part : {".weight", ".bias"})
      list.push_back({.name = module + part,
                      .shape = {d},
                      .group = ParameterGroup::kBackboneNoDecay,
                      .in_products = in_products,
                      .keep_float32 = true,
                      .tensors = {module + part}});
  };

  table("embeddings.word_embeddings.weight", config.vocabulary);
  table("embeddings.position_embeddings.weight", config.positions);
  if (config.types > 0) table("embeddings.token_type_embeddings.weight", config.types);
  norm("embeddings.LayerNorm", false);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const BertLayerModules modules = layer_modules(config, layer);
    linear(modules.qkv, 3 * d, d);
    for (size_t part = 0; part < 2; ++part) {
      auto& tensors = list[list.size() - 2 + part].tensors;
      tensors.clear();
      for (const std::string* module : {&modules.query, &modules.key, &modules.value})
        tensors.push_back(*module + (part == 0 ? ".weight" : ".bias"));
    }
    linear(modules.out, d, d);
    norm(modules.norm1, true);
    linear(modules.ff1, f, d);
    linear(modules.ff2, d, f);
    norm(modules.norm2, true);
  }
  return list;
}

BertLayerModules layer_modules(const BertConfig& config, int64_t layer) {
  const BertModules& names = config.variant->modules;
  const auto whole = [&](std::string_view name) { return fmt::format("{}{}.{}", names.layers, layer, name); };
  return {.qkv = whole(names.qkv),
          .query = whole(names.query),
          .key = whole(names.key),
          .value = whole(names.value),
          .out = whole(names.out),
          .norm1 = whole(names.norm1),
          .ff1 = whole(names.ff1),
          .ff2 = whole(names.ff2),
          .norm2 = whole(names.norm2)};
}

std::string saved_config_text(const ModelConfig& model, const BertConfig& config, const std::string& dtype) {
  auto json = model_json_to_save(model.path, config.variant->model_class);
  json[std::string(config.variant->keys.layers)] = config.layers;
  if (json.contains("is_decoder")) json["is_decoder"] = false;
  for (const char* key : {"dtype", "torch_dtype"})  // of what we write, whatever the folder's was
    if (json.contains(key)) json[key] = dtype;
  return json.dump(2) + "\n";
}

}  // namespace vixen
