#include "model/bert_config.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/file.hpp"

namespace vixen {
namespace {

using Json = nlohmann::ordered_json;

// Names of the two architectures' keys and tensors.
struct Names {
  const char *width, *heads, *feed_forward, *layers, *activation, *hidden_dropout, *attention_dropout;
  const char* layer_prefix;
  const char *qkv, *query, *key, *value, *out, *norm1, *ff1, *ff2, *norm2;
};
constexpr Names kBertNames = {"hidden_size",
                              "num_attention_heads",
                              "intermediate_size",
                              "num_hidden_layers",
                              "hidden_act",
                              "hidden_dropout_prob",
                              "attention_probs_dropout_prob",
                              "encoder.layer.",
                              "attention.self.qkv",
                              "attention.self.query",
                              "attention.self.key",
                              "attention.self.value",
                              "attention.output.dense",
                              "attention.output.LayerNorm",
                              "intermediate.dense",
                              "output.dense",
                              "output.LayerNorm"};
constexpr Names kDistilBertNames = {"dim",
                                    "n_heads",
                                    "hidden_dim",
                                    "n_layers",
                                    "activation",
                                    "dropout",
                                    "attention_dropout",
                                    "transformer.layer.",
                                    "attention.qkv_lin",
                                    "attention.q_lin",
                                    "attention.k_lin",
                                    "attention.v_lin",
                                    "attention.out_lin",
                                    "sa_layer_norm",
                                    "ffn.lin1",
                                    "ffn.lin2",
                                    "output_layer_norm"};

const Names& names_of(BertKind kind) {
  return kind == BertKind::kBert ? kBertNames : kDistilBertNames;
}

std::filesystem::path config_path(const ModelConfig& model) {
  const std::filesystem::path path = model.path;
  return std::filesystem::is_regular_file(path) ? path : path / "config.json";
}

Json read_json(const std::filesystem::path& path) {
  Json json;
  try {
    json = Json::parse(read_text(path));
  } catch (const Json::exception& error) {
    fail_user("{}: {}; expected the JSON object of a Hugging Face model", path.string(), error.what());
  }
  if (!json.is_object())
    fail_user("{}: found a JSON {}, expected the object of a Hugging Face model", path.string(), json.type_name());
  return json;
}

int64_t read_size(const std::string& file, const Json& json, const char* key) {
  if (!json.contains(key)) fail_user("{}: key {} is missing, expected a positive integer", file, key);
  if (!json[key].is_number_integer() || json[key].get<int64_t>() < 1)
    fail_user("{}: {} is {}, expected a positive integer", file, key, json[key].dump());
  return json[key].get<int64_t>();
}

double read_fraction(const std::string& file, const Json& json, const char* key, double fallback) {
  if (!json.contains(key)) return fallback;
  if (!json[key].is_number() || json[key].get<double>() < 0 || json[key].get<double>() >= 1)
    fail_user("{}: {} is {}, expected a number in [0, 1)", file, key, json[key].dump());
  return json[key].get<double>();
}

}  // namespace

BertConfig read_bert_config(const ModelConfig& model) {
  const auto path = config_path(model);
  const std::string file = path.string();
  const Json json = read_json(path);
  const std::string type =
      json.contains("model_type") && json["model_type"].is_string() ? json["model_type"].get<std::string>() : "";
  if (type != "bert" && type != "distilbert")
    fail_user("{}: model_type is '{}', expected one of: bert, distilbert", file, type);

  if (model.pooling != Pooling::kMean)
    fail_user("model.pooling: last found, expected mean for the {} of {}", type, file);

  if (model.mask == Mask::kCausal)
    fail_user("model.mask: causal found, expected auto or bidirectional for the {} of {}", type, file);

  BertConfig config;
  config.kind = type == "bert" ? BertKind::kBert : BertKind::kDistilBert;
  const Names& names = names_of(config.kind);
  config.width = read_size(file, json, names.width);
  config.heads = read_size(file, json, names.heads);
  if (config.width % config.heads != 0)
    fail_user("{}: {} is {}, expected a multiple of {} ({})", file, names.width, config.width, names.heads,
              config.heads);
  config.feed_forward = read_size(file, json, names.feed_forward);
  config.folder_layers = read_size(file, json, names.layers);
  config.vocabulary = read_size(file, json, "vocab_size");
  config.positions = read_size(file, json, "max_position_embeddings");
  if (config.kind == BertKind::kBert) {
    config.types = json.contains("type_vocab_size") ? read_size(file, json, "type_vocab_size") : 2;
    config.norm_eps = read_fraction(file, json, "layer_norm_eps", 1e-12);
  }
  if (json.contains(names.activation) && json[names.activation] != "gelu")
    fail_user("{}: {} is {}, expected \"gelu\" (the exact one)", file, names.activation, json[names.activation].dump());
  if (json.contains("position_embedding_type") && json["position_embedding_type"] != "absolute")
    fail_user("{}: position_embedding_type is {}, expected \"absolute\"", file, json["position_embedding_type"].dump());

  config.hidden_dropout = read_fraction(file, json, names.hidden_dropout, 0.1);
  config.attention_dropout = read_fraction(file, json, names.attention_dropout, 0.1);
  if (model.dropout >= 0) config.hidden_dropout = config.attention_dropout = model.dropout;
  config.out_dropout = config.kind == BertKind::kBert ? config.hidden_dropout : 0;

  config.layers = model.layers == 0 ? config.folder_layers : model.layers;
  if (config.layers < 0 || config.layers > config.folder_layers)
    fail_user("model.layers: {} found, expected 0 (all) or at most the {} layers of {}", config.layers,
              config.folder_layers, file);
  return config;
}

std::vector<BackboneParameter> backbone_parameters(const BertConfig& config) {
  const Names& names = names_of(config.kind);
  const int64_t d = config.width, f = config.feed_forward;
  std::vector<BackboneParameter> list;
  const auto table = [&](const std::string& name, int64_t rows) {
    list.push_back({.name = name, .shape = {rows, d}, .in_products = false, .tensors = {name}});
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
                      .is_vector = true,
                      .tensors = {module + part}});
  };

  table("embeddings.word_embeddings.weight", config.vocabulary);
  table("embeddings.position_embeddings.weight", config.positions);
  if (config.types > 0) table("embeddings.token_type_embeddings.weight", config.types);
  norm("embeddings.LayerNorm", false);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const BertLayerModules modules = layer_modules(config, layer);
    const std::string prefix = fmt::format("{}{}.", names.layer_prefix, layer);
    linear(modules.qkv, 3 * d, d);
    for (size_t part = 0; part < 2; ++part) {
      auto& tensors = list[list.size() - 2 + part].tensors;
      tensors.clear();
      for (const std::string* module : {&modules.query, &modules.key, &modules.value})
        tensors.push_back(*module + (part == 0 ? ".weight" : ".bias"));
    }
    linear(modules.out, d, d);
    norm(prefix + names.norm1, true);
    linear(modules.ff1, f, d);
    linear(modules.ff2, d, f);
    norm(prefix + names.norm2, true);
  }
  return list;
}

BertLayerModules layer_modules(const BertConfig& config, int64_t layer) {
  const Names& names = names_of(config.kind);
  const std::string prefix = fmt::format("{}{}.", names.layer_prefix, layer);
  return {.qkv = prefix + names.qkv,
          .query = prefix + names.query,
          .key = prefix + names.key,
          .value = prefix + names.value,
          .out = prefix + names.out,
          .ff1 = prefix + names.ff1,
          .ff2 = prefix + names.ff2};
}

std::string checkpoint_prefix(const BertConfig& config) {
  return config.kind == BertKind::kBert ? "bert." : "distilbert.";
}

std::string saved_config_text(const ModelConfig& model, const BertConfig& config, const std::string& dtype) {
  Json json = read_json(config_path(model));
  json["architectures"] = Json::array({config.kind == BertKind::kBert ? "BertModel" : "DistilBertModel"});
  json[names_of(config.kind).layers] = config.layers;
  for (const char* key : {"dtype", "torch_dtype"})  // of what we write, whatever the folder's was
    if (json.contains(key)) json[key] = dtype;
  return json.dump(2) + "\n";
}

}  // namespace vixen
