// config.json of every backbone: what it says, the parameters it asks for, and what is saved again.
#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.hpp"
#include "base/file.hpp"
#include "fixtures/tiny_decoder.hpp"
#include "fuzz/target.hpp"
#include "model/bert/bert_config.hpp"
#include "model/decoder/decoder_config.hpp"
#include "model/weights/model_json.hpp"

namespace vixen::fuzz {
namespace {

std::vector<std::string> seeds() {
  std::vector<std::string> list;
  const auto goldens = std::filesystem::path(VIXEN_SOURCE_DIR) / "tests/parity/goldens";
  for (const char* model : {"tiny_bert", "tiny_distilbert", "tiny_llama3", "tiny_mistral", "tiny_qwen2", "tiny_qwen3"})
    list.push_back(read_text(goldens / model / "config.json"));
  for (
      const char* rope :
      {R"({"rope_type": "yarn", "factor": 4.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.7})",
       R"({"type": "linear", "factor": 2.0})",
       R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32})"}) {
    auto json = test::tiny_decoder_config({.model_type = "llama", .biases = true});
    json["rope_scaling"] = nlohmann::ordered_json::parse(rope);
    list.push_back(json.dump(1));
  }
  auto json = test::tiny_decoder_config({.model_type = "qwen2"});
  json["use_sliding_window"] = true;
  json["sliding_window"] = 16;
  json["layer_types"] = {"full_attention", "full_attention", "sliding_attention"};
  list.push_back(json.dump());
  return list;
}

void use_parameters(const std::vector<BackboneParameter>& parameters) {
  for (const auto& parameter : parameters) {
    use(parameter.name.data(), parameter.name.size());
    use(parameter.shape.data(), parameter.shape.size() * sizeof(int64_t));
  }
}

void read(const std::string& input) {
  ModelConfig model;
  model.path = put("config.json", input).string();
  const std::string type = JsonObject::of_model(model.path).text("model_type", "");
  if (find_variant(kDecoderVariants, type) != nullptr) {
    const DecoderConfig config = read_decoder_config(model);
    use_parameters(backbone_parameters(config));
    const at::Tensor table = rope_table(config, std::min<int64_t>(config.positions, 16));
    use(table.const_data_ptr(), table.nbytes());
    put("again.json", saved_config_text(model, config, "float32"));
    model.path = (scratch() / "again.json").string();
    read_decoder_config(model);
  } else {
    const BertConfig config = read_bert_config(model);
    use_parameters(backbone_parameters(config));
    put("again.json", saved_config_text(model, config, "float32"));
    model.path = (scratch() / "again.json").string();
    read_bert_config(model);
  }
}

std::string mutate(const std::string& input, Random& random) {
  static const Words words = {"model_type",
                              "bert",
                              "distilbert",
                              "qwen2",
                              "qwen3",
                              "llama",
                              "mistral",
                              "hidden_size",
                              "dim",
                              "num_attention_heads",
                              "num_key_value_heads",
                              "head_dim",
                              "intermediate_size",
                              "num_hidden_layers",
                              "vocab_size",
                              "max_position_embeddings",
                              "original_max_position_embeddings",
                              "type_vocab_size",
                              "layer_norm_eps",
                              "rms_norm_eps",
                              "hidden_act",
                              "gelu",
                              "silu",
                              "rope_theta",
                              "rope_scaling",
                              "rope_parameters",
                              "rope_type",
                              "type",
                              "yarn",
                              "linear",
                              "llama3",
                              "factor",
                              "low_freq_factor",
                              "high_freq_factor",
                              "beta_fast",
                              "beta_slow",
                              "truncate",
                              "attention_factor",
                              "mscale",
                              "mscale_all_dim",
                              "partial_rotary_factor",
                              "sliding_window",
                              "use_sliding_window",
                              "max_window_layers",
                              "layer_types",
                              "full_attention",
                              "sliding_attention",
                              "attention_bias",
                              "mlp_bias",
                              "tie_word_embeddings",
                              "quantization_config",
                              "attention_dropout",
                              "hidden_dropout_prob",
                              "position_embedding_type",
                              "dtype",
                              "torch_dtype",
                              "architectures"};
  return mutate_json(input, random, words);
}

}  // namespace

const Target kModelConfig = {"model_config", seeds, read, mutate};

}  // namespace vixen::fuzz
