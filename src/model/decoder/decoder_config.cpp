#include "model/decoder/decoder_config.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/text.hpp"
#include "model/weights/model_json.hpp"

namespace vixen {
namespace {

// What transformers assumes where config.json is silent.
constexpr int64_t kQwen3HeadDim = 128;
constexpr int64_t kSlidingWindow = 4096;
constexpr int64_t kMaxWindowLayers = 28;

struct Architecture {
  const char* model_type;
  const char* model_class;  // of transformers
};
constexpr Architecture kArchitectures[] = {
    {"qwen2", "Qwen2Model"}, {"qwen3", "Qwen3Model"}, {"llama", "LlamaModel"}, {"mistral", "MistralModel"}};

// The window of those among the layers in use that have one; 0 when none has.
int64_t read_sliding_window(const JsonObject& json, const std::string& type, int64_t layers) {
  if (type == "llama") return 0;
  if (json.is_null("sliding_window")) return 0;
  const int64_t window = json.size("sliding_window", kSlidingWindow);
  if (type == "mistral") return window;
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

bool is_decoder(const std::string& model_type) {
  for (const auto& known : kArchitectures)
    if (model_type == known.model_type) return true;
  return false;
}

std::string decoder_types() {
  std::string types;
  for (const auto& known : kArchitectures) types += (types.empty() ? "" : ", ") + std::string(known.model_type);
  return types;
}

DecoderConfig read_decoder_config(const ModelConfig& model) {
  const JsonObject json = JsonObject::of_model(model.path);
  const std::string& file = json.file();
  DecoderConfig config;
  config.model_type = json.text("model_type", "");
  if (!is_decoder(config.model_type))
    fail_user("{}: model_type is '{}', expected one of: {}", file, shown(config.model_type), decoder_types());
  const std::string& type = config.model_type;
  if (model.pooling == Pooling::kCls)
    fail_user("model.pooling: cls found, expected mean or last for the {} of {}", type, file);

  config.width = json.size("hidden_size");
  config.heads = json.size("num_attention_heads");
  // Llama's first models came without the key.
  config.kv_heads = type == "llama" || json.is_null("num_key_value_heads")
                        ? json.size("num_key_value_heads", config.heads)
                        : json.size("num_key_value_heads");
  if (config.heads % config.kv_heads != 0)
    fail_user("{}: num_attention_heads is {}, expected a multiple of num_key_value_heads ({})", file, config.heads,
              config.kv_heads);
  if (json.has("head_dim")) {
    config.head_dim = json.size("head_dim");
  } else if (type == "qwen3") {
    config.head_dim = kQwen3HeadDim;
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
  const bool attention_bias = json.flag("attention_bias", false) && (type == "llama" || type == "qwen3");
  config.qkv_bias = type == "qwen2" || attention_bias;
  config.out_bias = attention_bias;
  config.mlp_bias = type == "llama" && json.flag("mlp_bias", false);
  config.head_norm = type == "qwen3";
  config.tied_embeddings = json.flag("tie_word_embeddings", false);
  config.sliding_window = read_sliding_window(json, type, config.layers);

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
  // modules lie one below the other in one parameter called prefix + name
  const auto linear = [&](const std::string& prefix, const std::string& name, const std::vector<std::string>& modules,
                          const std::vector<int64_t>& rows, int64_t inputs, bool bias) {
    int64_t outputs = 0;
    for (const int64_t count : rows) outputs += count;
    for (const bool is_bias : {false, true}) {
      if (is_bias && !bias) continue;
      const std::string ending = is_bias ? ".bias" : ".weight";
      BackboneParameter parameter{.name = prefix + name + ending, .shape = {outputs}, .tensors = {}, .rows = rows};
      if (is_bias)
        parameter.group = ParameterGroup::kBackboneNoDecay;
      else
        parameter.shape.push_back(inputs);
      for (const auto& module : modules) parameter.tensors.push_back(prefix + module + ending);
      list.push_back(std::move(parameter));
    }
  };

  list.push_back({.name = "embed_tokens.weight",
                  .shape = {config.vocabulary, d},
                  .in_products = false,
                  .tensors = {"embed_tokens.weight"},
                  .tied = config.tied_embeddings ? "lm_head.weight" : ""});
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = fmt::format("layers.{}.", layer);
    norm(prefix + "input_layernorm", d);
    linear(prefix + "self_attn.", "qkv_proj", {"q_proj", "k_proj", "v_proj"}, {q, kv, kv}, d, config.qkv_bias);
    if (config.head_norm) {
      norm(prefix + "self_attn.q_norm", config.head_dim);
      norm(prefix + "self_attn.k_norm", config.head_dim);
    }
    linear(prefix + "self_attn.", "o_proj", {"o_proj"}, {d}, q, config.out_bias);
    norm(prefix + "post_attention_layernorm", d);
    linear(prefix + "mlp.", "gate_up_proj", {"gate_proj", "up_proj"}, {f, f}, d, config.mlp_bias);
    linear(prefix + "mlp.", "down_proj", {"down_proj"}, {d}, f, config.mlp_bias);
  }
  norm("norm", d);
  return list;
}

std::string saved_config_text(const ModelConfig& model, const DecoderConfig& config, const std::string& torch_dtype) {
  auto json = read_model_json(model.path);
  for (const auto& known : kArchitectures)
    if (config.model_type == known.model_type)
      json["architectures"] = nlohmann::ordered_json::array({known.model_class});
  json["num_hidden_layers"] = config.layers;
  json.erase("auto_map");  // names code of the folder that we do not copy
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
