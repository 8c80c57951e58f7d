// config.json of decoders: what every architecture says and leaves out, rotary tables, saved configurations, and every
// fault in one line.
#include "model/decoder/decoder_config.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"
#include "fixtures/tiny_decoder.hpp"

namespace vixen {
namespace {

using Json = nlohmann::ordered_json;
using test::tiny_decoder_config;
using test::TinyDecoderOptions;

// A folder that holds nothing but config.json: reading it needs no weights.
struct ConfigFolder : test::TempDir {
  explicit ConfigFolder(const Json& json) { std::ofstream(file()) << json.dump(); }
  std::filesystem::path file() const { return path() / "config.json"; }
};

Json of_type(const std::string& type) {
  TinyDecoderOptions options;
  options.model_type = type;
  return tiny_decoder_config(options);
}

DecoderConfig read(const Json& json, ModelConfig model = {}) {
  const ConfigFolder folder(json);
  model.path = folder.path().string();
  return read_decoder_config(model);
}

TEST(DecoderConfig, BiasesAndHeadsOfTheArchitectures) {
  const DecoderConfig qwen2 = read(of_type("qwen2"));
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.out_bias || qwen2.mlp_bias || qwen2.head_norm);
  EXPECT_EQ(qwen2.head_dim, 8);
  EXPECT_EQ(qwen2.qkv_rows(), (4 + 2 * 2) * 8);
  EXPECT_TRUE(qwen2.tied_embeddings);

  Json json = of_type("qwen3");
  json["head_dim"] = 16;
  DecoderConfig qwen3 = read(json);
  EXPECT_TRUE(qwen3.head_norm);
  EXPECT_FALSE(qwen3.qkv_bias);
  EXPECT_EQ(qwen3.head_dim, 16);
  json["attention_bias"] = true;
  json.erase("head_dim");
  qwen3 = read(json);
  EXPECT_TRUE(qwen3.qkv_bias && qwen3.out_bias);
  EXPECT_EQ(qwen3.head_dim, 128);

  json = of_type("llama");
  json.erase("num_key_value_heads");
  json["mlp_bias"] = true;
  json["head_dim"] = nullptr;
  const DecoderConfig llama = read(json);
  EXPECT_EQ(llama.kv_heads, 4);
  EXPECT_EQ(llama.head_dim, 8);
  EXPECT_TRUE(llama.mlp_bias);
  EXPECT_FALSE(llama.qkv_bias || llama.out_bias);

  json = of_type("mistral");
  EXPECT_EQ(read(json).sliding_window, 0);
  json["sliding_window"] = 16;
  EXPECT_EQ(read(json).sliding_window, 16);
  json.erase("sliding_window");
  EXPECT_EQ(read(json).sliding_window, 4096);
}

TEST(DecoderConfig, SlidingWindowOfTheLayersInUse) {
  Json json = of_type("qwen2");
  json["sliding_window"] = 16;
  EXPECT_EQ(read(json).sliding_window, 0) << "not in use";
  json["use_sliding_window"] = true;
  json["max_window_layers"] = 3;
  EXPECT_EQ(read(json).sliding_window, 0) << "no layer from 3 on";
  json["max_window_layers"] = 2;
  EXPECT_EQ(read(json).sliding_window, 16);
  ModelConfig cut;
  cut.layers = 2;
  EXPECT_EQ(read(json, cut).sliding_window, 0) << "the layer with a window is not in use";
  json["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
  EXPECT_EQ(read(json, cut).sliding_window, 16);
  cut.layers = 1;
  EXPECT_EQ(read(json, cut).sliding_window, 0);
}

TEST(DecoderConfig, BothSpellingsOfTheRotation) {
  Json old = of_type("llama");
  old["rope_theta"] = 500000.0;
  old["rope_scaling"] = {{"type", "llama3"},
                         {"factor", 8.0},
                         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0},
                         {"original_max_position_embeddings", 32}};
  Json recent = of_type("llama");
  recent.erase("rope_theta");
  recent["rope_parameters"] = old["rope_scaling"];
  recent["rope_parameters"].erase("type");
  recent["rope_parameters"]["rope_type"] = "llama3";
  recent["rope_parameters"]["rope_theta"] = 500000.0;
  for (const Json& json : {old, recent}) {
    const DecoderConfig config = read(json);
    EXPECT_EQ(config.rope_theta, 500000.0);
    EXPECT_EQ(config.rope_scaling.kind, RopeScaling::Kind::kLlama3);
    EXPECT_EQ(config.rope_scaling.original_positions, 32);
    EXPECT_EQ(config.rope_scaling.high_freq_factor, 4);
  }
  recent["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 77.0}};
  EXPECT_EQ(read(recent).rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_EQ(read(recent).rope_theta, 77.0);
  old["rope_scaling"] = nullptr;
  EXPECT_EQ(read(old).rope_scaling.kind, RopeScaling::Kind::kNone);
}

struct Angle {
  int64_t position, pair;
  double cos, sin;
};

// Values of LlamaRotaryEmbedding of transformers 5.23 (16 columns a head, 2048 positions), printed with repr().
void expect_angles(double theta, const Json& scaling, const std::vector<Angle>& angles) {
  Json json = of_type("llama");
  json["head_dim"] = 16;
  json["max_position_embeddings"] = 2048;
  json["rope_theta"] = theta;
  json["rope_scaling"] = scaling;
  const at::Tensor table = rope_table(read(json), 1000);
  ASSERT_EQ(table.sizes(), at::IntArrayRef({1000, 16}));
  for (const auto& [position, pair, cos, sin] : angles) {
    EXPECT_NEAR(table[position][pair].item<double>(), cos, 1e-6) << scaling << position << ' ' << pair;
    EXPECT_NEAR(table[position][8 + pair].item<double>(), sin, 1e-6) << scaling << position << ' ' << pair;
  }
}

TEST(RopeTable, AnglesOfTransformers) {
  expect_angles(1e4, nullptr,
                {{1, 0, 0.5403023362159729, 0.8414709568023682},
                 {3, 2, 0.9553365111351013, 0.29552021622657776},
                 {37, 3, 0.3901123106479645, 0.9207673072814941},
                 {999, 4, -0.8444697856903076, -0.5356031656265259},
                 {999, 7, 0.9505136013031006, 0.3106830418109894}});
  expect_angles(1e4, {{"rope_type", "linear"}, {"factor", 4.0}},
                {{1, 0, 0.9689124226570129, 0.24740396440029144},
                 {3, 2, 0.9971888065338135, 0.07492970675230026},
                 {37, 3, 0.9575229287147522, 0.2883571684360504},
                 {999, 4, -0.7996448874473572, 0.600473165512085},
                 {999, 7, 0.9968828558921814, 0.07889581471681595}});
  expect_angles(5e5,
                {{"rope_type", "llama3"},
                 {"factor", 8.0},
                 {"low_freq_factor", 1.0},
                 {"high_freq_factor", 4.0},
                 {"original_max_position_embeddings", 512}},
                {{1, 0, 0.5403023362159729, 0.8414709568023682},
                 {3, 2, 0.996637225151062, 0.0819404274225235},
                 {37, 3, 0.9994312524795532, 0.033722180873155594},
                 {999, 4, 0.9844467043876648, 0.1756833791732788},
                 {999, 7, 0.9999991655349731, 0.0012878836132586002}});
  expect_angles(1e6, {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}},
                {{1, 0, 0.6152041554450989, 0.9581236243247986},
                 {3, 2, 1.1373486518859863, 0.05398968607187271},
                 {37, 3, 1.1370893716812134, 0.059200894087553024},
                 {999, 4, 1.1033025979995728, 0.2814256250858307},
                 {999, 7, 1.138628363609314, 0.0015991446562111378}});
  expect_angles(1e4,
                {{"rope_type", "yarn"},
                 {"factor", 8.0},
                 {"original_max_position_embeddings", 256},
                 {"beta_fast", 16.0},
                 {"beta_slow", 2.0},
                 {"truncate", false},
                 {"mscale", 0.7},
                 {"mscale_all_dim", 0.9}},
                {{1, 0, 0.5213741660118103, 0.8119921088218689},
                 {3, 2, 0.9571561813354492, 0.12253314256668091},
                 {37, 3, 0.9546652436256409, 0.14062903821468353},
                 {999, 4, 0.30542030930519104, 0.9153582453727722},
                 {999, 7, 0.9642152190208435, 0.03809564560651779}});
  expect_angles(
      1e4,
      {{"rope_type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 256}, {"attention_factor", 0.8}},
      {{1, 0, 0.43224188685417175, 0.6731767654418945},
       {3, 2, 0.7886363863945007, 0.1343601942062378},
       {37, 3, 0.736160933971405, 0.3131566345691681},
       {999, 4, 0.25320670008659363, 0.7588717937469482},
       {999, 7, 0.799376368522644, 0.031582947820425034}});
}

TEST(DecoderConfig, SavedForTheLayersInUse) {
  Json json = of_type("qwen2");
  json["layer_types"] = {"full_attention", "full_attention", "sliding_attention"};
  const ConfigFolder folder(json);
  ModelConfig model;
  model.path = folder.path().string();
  model.layers = 2;
  const Json saved = Json::parse(saved_config_text(model, read_decoder_config(model), "bfloat16"));
  EXPECT_EQ(saved["architectures"], Json::array({"Qwen2Model"}));
  EXPECT_EQ(saved["num_hidden_layers"], 2);
  EXPECT_EQ(saved["layer_types"], Json::array({"full_attention", "full_attention"}));
  EXPECT_EQ(saved["torch_dtype"], "bfloat16");
  EXPECT_FALSE(saved.contains("dtype"));
  EXPECT_EQ(saved["hidden_size"], 32);
  json["dtype"] = "float16";
  EXPECT_EQ(Json::parse(saved_config_text(model, read_decoder_config(model), "float32"))["torch_dtype"], "float32");
}

TEST(DecoderConfig, TheFileItself) {
  const ConfigFolder folder(of_type("llama"));
  ModelConfig model;
  model.path = (folder.path() / "config.json").string();
  EXPECT_EQ(read_decoder_config(model).layers, 3);
}

TEST(DecoderConfig, ParametersInForwardOrder) {
  TinyDecoderOptions options{.model_type = "qwen3", .layers = 1, .biases = true};
  const auto list = backbone_parameters(read(tiny_decoder_config(options)));
  std::vector<std::string> names;
  names.reserve(list.size());
  for (const auto& p : list) names.push_back(p.name);
  const std::vector<std::string> expected = {"embed_tokens.weight",
                                             "layers.0.input_layernorm.weight",
                                             "layers.0.self_attn.qkv_proj.weight",
                                             "layers.0.self_attn.qkv_proj.bias",
                                             "layers.0.self_attn.q_norm.weight",
                                             "layers.0.self_attn.k_norm.weight",
                                             "layers.0.self_attn.o_proj.weight",
                                             "layers.0.self_attn.o_proj.bias",
                                             "layers.0.post_attention_layernorm.weight",
                                             "layers.0.mlp.gate_up_proj.weight",
                                             "layers.0.mlp.down_proj.weight",
                                             "norm.weight"};
  EXPECT_EQ(names, expected);
  EXPECT_EQ(list[2].tensors[2], "layers.0.self_attn.v_proj.weight");
  EXPECT_EQ(list[2].rows, (std::vector<int64_t>{32, 16, 16}));
  EXPECT_EQ(list[2].shape, (std::vector<int64_t>{64, 32}));
  EXPECT_FALSE(list[0].in_products);
  EXPECT_TRUE(list[1].keep_float32 && list[4].keep_float32 && !list[3].keep_float32);
  EXPECT_EQ(list[3].group, ParameterGroup::kBackboneNoDecay);
}

// The message of the fault that an edited config.json ends in.
std::string fault(const std::string& type, const std::function<void(Json&)>& edit, ModelConfig model = {}) {
  Json json = of_type(type);
  edit(json);
  const ConfigFolder folder(json);
  model.path = folder.path().string();
  std::string message = test::fault_of([&] { read_decoder_config(model); });
  if (message != "(no fault)") {
    EXPECT_FAULT(message, folder.file().string());
  }
  return message;
}

TEST(DecoderConfig, FaultsInOneLine) {
  struct Case {
    const char* type;
    const char* key;
    Json value;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"qwen2", "model_type", "gpt2", "model_type is 'gpt2', expected one of: qwen2, qwen3, llama, mistral"},
      {"qwen2", "model_type", 3, "model_type is 3, expected a string"},
      {"qwen2", "hidden_size", -1, "hidden_size is -1, expected a positive integer"},
      {"qwen2", "hidden_size", "wide", "hidden_size is \"wide\", expected a positive integer"},
      {"qwen2", "hidden_size", 33, "hidden_size is 33, expected a multiple of num_attention_heads (4)"},
      {"qwen2", "num_key_value_heads", 3, "num_attention_heads is 4, expected a multiple of num_key_value_heads (3)"},
      {"llama", "head_dim", 7, "heads have 7 columns, expected an even number"},
      {"llama", "hidden_act", "gelu", "hidden_act is \"gelu\", expected \"silu\""},
      {"llama", "rms_norm_eps", 0, "rms_norm_eps is 0, expected a positive number"},
      {"llama", "rms_norm_eps", 1e300, "rms_norm_eps is 1e+300, expected a number from 1e-30 to 1e30"},
      {"llama", "rms_norm_eps", 5, "rms_norm_eps is 5, expected less than 1"},
      {"llama", "rope_theta", -1, "rope_theta is -1, expected a positive number"},
      {"llama", "rope_theta", 1e300, "rope_theta is 1e+300, expected a number from 1e-30 to 1e30"},
      {"llama", "vocab_size", 1e10, "vocab_size is 10000000000.0, expected a positive integer"},
      {"llama", "vocab_size", 10000000000, "vocab_size is 10000000000, expected a size of a model, at most 2^28"},
      {"llama", "intermediate_size", 200000000000000, "expected a size of a model"},
      {"qwen2", "hidden_size", 200000000, "its sizes come to"},
      {"llama", "num_hidden_layers", 20000, "20000 layers, expected at most 10000"},
      {"llama", "attention_bias", 1, "attention_bias is 1, expected true or false"},
      {"llama", "quantization_config", Json::object(), "quantization_config found"},
      {"llama", "attention_dropout", 0.1, "attention_dropout is 0.1, expected 0"},
      {"llama", "rope_theta", "big", "rope_theta is \"big\", expected a positive number"},
      {"llama", "rope_scaling", 4, "rope_scaling is 4, expected an object"},
      {"llama",
       "rope_scaling",
       {{"rope_type", "longrope"}},
       "rope_scaling.rope_type is \"longrope\", expected one of: default, linear, llama3, yarn"},
      {"llama", "rope_scaling", {{"type", "linear"}}, "key rope_scaling.factor is missing, expected a positive number"},
      {"llama",
       "rope_scaling",
       {{"type", "llama3"}, {"factor", 8}},
       "key rope_scaling.low_freq_factor is missing, expected a positive number"},
      {"llama",
       "rope_scaling",
       {{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}},
       "rope_scaling.high_freq_factor is 4, expected more than low_freq_factor (4)"},
      {"llama",
       "rope_parameters",
       {{"full_attention", Json::object()}},
       "rope_parameters has an entry full_attention, expected one setting for all layers"},
      {"llama", "partial_rotary_factor", 0.5, "partial_rotary_factor is 0.5, expected 1"},
      {"mistral", "sliding_window", 0, "sliding_window is 0, expected a positive integer"},
  };
  for (const auto& c : cases) {
    const std::string message = fault(c.type, [&](Json& json) { json[c.key] = c.value; });
    EXPECT_NE(message.find(c.message), std::string::npos) << message;
  }
  for (const char* key : {"hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size",
                          "num_hidden_layers", "vocab_size", "max_position_embeddings"}) {
    const std::string message = fault("qwen2", [&](Json& json) { json.erase(key); });
    EXPECT_NE(message.find(std::string("key ") + key + " is missing, expected a positive integer"), std::string::npos)
        << message;
  }
  EXPECT_NE(fault("qwen2",
                  [](Json& json) {
                    json["use_sliding_window"] = true;
                    json["layer_types"] = {"full_attention", "linear_attention", "full_attention"};
                  })
                .find("layer_types holds \"linear_attention\", expected full_attention or sliding_attention"),
            std::string::npos);
  ModelConfig model;
  model.layers = 4;
  EXPECT_NE(fault(
                "qwen2", [](Json&) {}, model)
                .find("model.layers: 4 found, expected 0 (all) or at most the 3 layers"),
            std::string::npos);
  model = {};
  model.dropout = 0.1;
  EXPECT_NE(fault(
                "qwen2", [](Json&) {}, model)
                .find("model.dropout: 0.1 found, expected 0"),
            std::string::npos);
  model.dropout = 0;
  EXPECT_EQ(fault(
                "qwen2", [](Json& json) { json["attention_dropout"] = 0.1; }, model),
            "(no fault)");
}

TEST(DecoderConfig, NoJson) {
  const ConfigFolder folder(Json::array());
  ModelConfig model;
  model.path = folder.path().string();
  EXPECT_THROW(read_decoder_config(model), UserError);
  std::ofstream(folder.path() / "config.json") << "{\"model_type\": ";
  EXPECT_THROW(read_decoder_config(model), UserError);
  model.path = "/nowhere/at/all";
  EXPECT_THROW(read_decoder_config(model), UserError);
}

}  // namespace
}  // namespace vixen
