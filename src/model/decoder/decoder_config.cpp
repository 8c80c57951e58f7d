#include "model/decoder/decoder_config.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/text.hpp"
#include "model/weights/model_json.hpp"

namespace vixen {
namespace {

// What transformers assumes where config.json is silent.
constexpr int64_t kSlidingWindow = 4096;
constexpr int64_t kMaxWindowLayers = 28;

// The window of those among the layers in use that have one; 0 when none has.
int64_t read_sliding_window(const JsonObject& json, WindowRule rule, int64_t layers) {
  if (rule == WindowRule::kNone || json.is_null("sliding_window")) return 0;
  const int64_t window = json.size("sliding_window", kSlidingWindow);
  if (rule == WindowRule::kAll) return window;
  if (!json.flag("use_sliding_window", false)) return 0;
  if (!json.has("layer_types")) return json.count("max_window_layers", kMaxWindowLayers) < layers ? window : 0;
  const auto types = json.texts("layer_types");
  if (static_cast<int64_t>(types.size()) < layers)
    fail_user("{}: layer_types has {} entries, expected one for each of {} layers", json.file(), types.size(), layers);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string& layer = types[static_cast<size_t>(i)];
    if (layer == "sliding_attention") return window;
    if (layer != "full_attention")
      fail_user("{}: layer_types holds \"{}\", expected full_attention or sliding_attention", json.file(), layer);
  }
  return 0;
}

// rope_theta and the scaling: transformers 5 has both in rope_parameters, its predecessors rope_theta beside an
// optional rope_scaling.
void read_rope(const JsonObject& json, DecoderConfig& config) {
  config.rope_theta = json.positive("rope_theta", 10000);
  const char* key = json.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (json.number("partial_rotary_factor", 1) != 1)
    fail_user("{}: partial_rotary_factor is {}, expected 1 (all columns of a head turn)", json.file(),
              json.number("partial_rotary_factor", 1));
  if (!json.has(key)) return;
  const JsonObject rope = json.object(key);
  for (const char* nested : {"full_attention", "sliding_attention"})
    if (rope.has(nested))
      fail_user("{}: {} has an entry {}, expected one setting for all layers", json.file(), key, nested);
  config.rope_theta = rope.positive("rope_theta", config.rope_theta);
  if (rope.number("partial_rotary_factor", 1) != 1)
    fail_user("{}: {}.partial_rotary_factor is {}, expected 1 (all columns of a head turn)", json.file(), key,
              rope.number("partial_rotary_factor", 1));

  using Kind = RopeScaling::Kind;
  RopeScaling& scaling = config.rope_scaling;
  const std::string type = rope.text("rope_type", rope.text("type", "default"));
  if (type == "default") return;
  scaling.kind = type == "linear"   ? Kind::kLinear
                 : type == "llama3" ? Kind::kLlama3
                 : type == "yarn"   ? Kind::kYarn
                                    : Kind::kNone;
  if (scaling.kind == Kind::kNone)
    fail_user("{}: {}.rope_type is \"{}\", expected one of: default, linear, llama3, yarn", json.file(), key,
              shown(type));
  if (scaling.kind != Kind::kLinear) {
    scaling.original_positions =
        json.size("original_max_position_embeddings", rope.size("original_max_position_embeddings", config.positions));
  }
  // Yarn may leave the factor to the ratio of the two lengths.
  if (scaling.kind == Kind::kYarn && !rope.has("factor"))
    scaling.factor = static_cast<double>(config.positions) / static_cast<double>(scaling.original_positions);
  else
    scaling.factor = rope.positive("factor");
  if (scaling.kind == Kind::kLlama3) {
    scaling.low_freq_factor = rope.positive("low_freq_factor");
    scaling.high_freq_factor = rope.positive("high_freq_factor");
    if (scaling.high_freq_factor <= scaling.low_freq_factor)
      fail_user("{}: {}.high_freq_factor is {}, expected more than low_freq_factor ({})", json.file(), key,
                scaling.high_freq_factor, scaling.low_freq_factor);
  }
  if (scaling.kind == Kind::kYarn) {
    scaling.beta_fast = rope.positive("beta_fast", scaling.beta_fast);
    scaling.beta_slow = rope.positive("beta_slow", scaling.beta_slow);
    scaling.truncate = rope.flag("truncate", true);
    scaling.attention_factor =
        rope.has("attention_factor") ? rope.positive("attention_factor") : yarn_attention_factor(scaling.factor, 1);
    if (!rope.has("attention_factor") && rope.number("mscale", 0) != 0 && rope.number("mscale_all_dim", 0) != 0)
      scaling.attention_factor = yarn_attention_factor(scaling.factor, rope.number("mscale", 0)) /
                                 yarn_attention_factor(scaling.factor, rope.number("mscale_all_dim", 0));
  }
}

}  // namespace

DecoderConfig read_decoder_config(const ModelConfig& model) {
  const JsonObject json = JsonObject::of_model(model.path);
  const std::string& file = json.file();
  DecoderConfig config;
  const std::string type = json.text("model_type", "");
  config.variant = find_variant(kDecoderVariants, type);
  if (config.variant == nullptr)
    fail_user("{}: model_type is '{}', expected one of: {}", file, shown(type), types_of(kDecoderVariants));
  const DecoderVariant& variant = *config.variant;
  if (model.pooling == Pooling::kCls)
    fail_user("model.pooling: cls found, expected mean or last for the {} of {}", type, file);

  config.width = json.size("hidden_size");
  config.heads = json.size("num_attention_heads");
  config.kv_heads = variant.optional_kv_heads || json.is_null("num_key_value_heads")
                        ? json.size("num_key_value_heads", config.heads)
                        : json.size("num_key_value_heads");
  if (config.heads % config.kv_heads != 0)
    fail_user("{}: num_attention_heads is {}, expected a multiple of num_key_value_heads ({})", file, config.heads,
              config.kv_heads);
  if (json.has("head_dim")) {
    config.head_dim = json.size("head_dim");
  } else if (variant.head_dim > 0) {
    config.head_dim = variant.head_dim;
  } else {
    if (config.width % config.heads != 0)
      fail_user("{}: hidden_size is {}, expected a multiple of num_attention_heads ({})", file, config.width,
                config.heads);
    config.head_dim = config.width / config.heads;
  }
  if (config.head_dim % 2 != 0)
    fail_user("{}: heads have {} columns, expected an even number (pairs turn by an angle)", file, config.head_dim);
  config.feed_forward = json.size("intermediate_size");
  config.folder_layers = json.size("num_hidden_layers");
  config.vocabulary = json.size("vocab_size");
  config.positions = json.size("max_position_embeddings");
  config.norm_eps = json.positive("rms_norm_eps", 1e-6);
  if (config.norm_eps >= 1) fail_user("{}: rms_norm_eps is {}, expected less than 1", file, config.norm_eps);
  if (const std::string activation = json.text("hidden_act", "silu"); activation != "silu")
    fail_user("{}: hidden_act is \"{}\", expected \"silu\"", file, shown(activation));
  if (json.has("quantization_config"))
    fail_user("{}: quantization_config found, expected a model with float weights", file);

  check_weight_count(file,
                     static_cast<double>(config.width) * (static_cast<double>(config.vocabulary) +
                                                          static_cast<double>(config.folder_layers) *
                                                              (static_cast<double>(config.qkv_rows()) +
                                                               static_cast<double>(config.heads * config.head_dim) +
                                                               3 * static_cast<double>(config.feed_forward))),
                     config.folder_layers);
  config.layers = model.layers == 0 ? config.folder_layers : model.layers;
  if (config.layers < 0 || config.layers > config.folder_layers)
    fail_user("model.layers: {} found, expected 0 (all) or at most the {} layers of {}", config.layers,
              config.folder_layers, file);

  read_rope(json, config);
  const bool attention_bias = json.flag("attention_bias", false) && variant.optional_bias;
  config.qkv_bias = variant.qkv_bias || attention_bias;
  config.out_bias = attention_bias;
  config.mlp_bias = variant.optional_mlp_bias && json.flag("mlp_bias", false);
  config.head_norm = variant.head_norm;
  config.tied_embeddings = json.flag("tie_word_embeddings", false);
  config.sliding_window = read_sliding_window(json, variant.window, config.layers);

  // Decoders are trained without dropout (lora.dropout apart): none is asked for, none is forgotten in silence.
  if (model.dropout > 0)
    fail_user("model.dropout: {} found, expected 0 for the {} of {} (lora.dropout is for adapters)", model.dropout,
              type, file);
  if (model.dropout < 0 && json.number("attention_dropout", 0) != 0)
    fail_user("{}: attention_dropout is {}, expected 0; model.dropout = 0 trains without it", file,
              json.number("attention_dropout", 0));
  return config;
}

std::vector<BackboneParameter> backbone_parameters(const DecoderConfig& config) {
  const int64_t d = config.width, f = config.feed_forward;
  const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  std::vector<BackboneParameter> list;
  const auto norm = [&](const std::string& module, int64_t columns) {
    list.push_back({.name = module + ".weight",
                    .shape = {columns},
                    .group = ParameterGroup::kBackboneNoDecay,
                    .keep_float32 = true,
                    .tensors = {module + ".weight"},
                    .rows = {}});
  };
  // The rows of the modules, one below the other, are one parameter.
  const auto linear = [&](const std::string& name, const std::vector<std::string>& modules,
                          const std::vector<int64_t>& rows, int64_t inputs, bool bias) {
    int64_t outputs = 0;
    for (const int64_t count : rows) outputs += count;
    for (const bool is_bias : {false, true}) {
      if (is_bias && !bias) continue;
      const std::string ending = is_bias ? ".bias" : ".weight";
      BackboneParameter parameter{.name = name + ending, .shape = {outputs}, .tensors = {}, .rows = rows};
      if (is_bias)
        parameter.group = ParameterGroup::kBackboneNoDecay;
      else
        parameter.shape.push_back(inputs);
      for (const auto& module : modules) parameter.tensors.push_back(module + ending);
      list.push_back(std::move(parameter));
    }
  };

  const DecoderModules& names = config.variant->modules;
  const std::string embedding = std::string(names.embedding) + ".weight";
  list.push_back({.name = embedding,
                  .shape = {config.vocabulary, d},
                  .in_products = false,
                  .tensors = {embedding},
                  .tied = config.tied_embeddings ? "lm_head.weight" : ""});
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const DecoderLayerModules modules = layer_modules(config, layer);
    norm(modules.norm1, d);
    linear(modules.qkv, {modules.query, modules.key, modules.value}, {q, kv, kv}, d, config.qkv_bias);
    if (config.head_norm) {
      norm(modules.q_norm, config.head_dim);
      norm(modules.k_norm, config.head_dim);
    }
    linear(modules.out, {modules.out}, {d}, q, config.out_bias);
    norm(modules.norm2, d);
    linear(modules.gate_up, {modules.gate, modules.up}, {f, f}, d, config.mlp_bias);
    linear(modules.down, {modules.down}, {d}, f, config.mlp_bias);
  }
  norm(std::string(names.norm), d);
  return list;
}

DecoderLayerModules layer_modules(const DecoderConfig& config, int64_t layer) {
  const DecoderModules& names = config.variant->modules;
  const auto whole = [&](std::string_view name) { return fmt::format("{}{}.{}", names.layers, layer, name); };
  return {.norm1 = whole(names.norm1),
          .qkv = whole(names.qkv),
          .query = whole(names.query),
          .key = whole(names.key),
          .value = whole(names.value),
          .q_norm = whole(names.q_norm),
          .k_norm = whole(names.k_norm),
          .out = whole(names.out),
          .norm2 = whole(names.norm2),
          .gate_up = whole(names.gate_up),
          .gate = whole(names.gate),
          .up = whole(names.up),
          .down = whole(names.down)};
}

std::string saved_config_text(const ModelConfig& model, const DecoderConfig& config, const std::string& torch_dtype) {
  auto json = model_json_to_save(model.path, config.variant->model_class);
  json["num_hidden_layers"] = config.layers;
  if (json.contains("is_causal")) json["is_causal"] = model.mask != Mask::kBidirectional;
  if (json.contains("layer_types") && json["layer_types"].is_array())
    while (static_cast<int64_t>(json["layer_types"].size()) > config.layers)
      json["layer_types"].erase(json["layer_types"].size() - 1);
  // transformers 4 reads torch_dtype, 5 reads both and writes dtype.
  json["torch_dtype"] = torch_dtype;
  if (json.contains("dtype")) json["dtype"] = torch_dtype;
  return json.dump(2) + "\n";
}

}  // namespace vixen
