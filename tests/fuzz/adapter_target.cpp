// A PEFT folder: adapter_config.json and the weights beside it, read into a model of one layer.
#include <ATen/ATen.h>

#include "base/file.hpp"
#include "fuzz/target.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen::fuzz {
namespace {

constexpr int64_t kInputs = 4, kOutputs = 6;

std::string weights(int64_t rank, const std::string& prefix) {
  const auto path = scratch() / "seed.safetensors";
  std::map<std::string, at::Tensor> tensors;
  for (const char* module : {"layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj"}) {
    tensors["base_model.model." + prefix + module + ".lora_A.weight"] = at::ones({rank, kInputs});
    tensors["base_model.model." + prefix + module + ".lora_B.weight"] = at::ones({kOutputs, rank});
  }
  write_safetensors(path, tensors, {{"format", "pt"}});
  return read_text(path);
}

std::vector<std::string> seeds() {
  const std::string full =
      read_text(std::filesystem::path(VIXEN_SOURCE_DIR) / "tests/parity/goldens/tiny_bert/adapter/adapter_config.json");
  return {bundle({full, weights(3, "")}),
          bundle({R"({"peft_type": "LORA", "r": 2, "lora_alpha": 16.5, "lora_dropout": 0.1, "bias": "none",
                     "rank_pattern": {"q_proj": 2}, "alpha_pattern": {}, "target_modules": ["q_proj", "v_proj"]})",
                  weights(2, "model.")})};
}

void read(const std::string& input) {
  const auto parts = unbundle(input, 2);
  std::filesystem::create_directories(scratch() / "adapter");
  put(std::filesystem::path("adapter") / kAdapterConfigFile, parts[0]);
  put(std::filesystem::path("adapter") / kAdapterWeightFile, parts[1]);
  LoraConfig config;
  config.adapter = (scratch() / "adapter").string();
  config = with_adapter_settings(config);
  lora_scale(config);
  ParameterStore store;
  AdaptedLinear linear;
  add_lora(config, "layers.0.self_attn.qkv_proj",
           {{LoraModule::kQuery, 0, kOutputs, "layers.0.self_attn.q_proj"},
            {LoraModule::kValue, kOutputs, kOutputs, "layers.0.self_attn.v_proj"}},
           kInputs, 0, true, store, linear);
  store.allocate(at::kCPU, at::kFloat);
  load_adapter(config.adapter, {""}, {&linear}, store);
  use(store.flat_values().const_data_ptr(), store.flat_values().nbytes());
}

std::string mutate(const std::string& input, Random& random) {
  static const Words config_words = {"peft_type",
                                     "LORA",
                                     "r",
                                     "lora_alpha",
                                     "lora_dropout",
                                     "use_rslora",
                                     "use_dora",
                                     "bias",
                                     "none",
                                     "all",
                                     "rank_pattern",
                                     "alpha_pattern",
                                     "q_proj",
                                     "fan_in_fan_out",
                                     "modules_to_save",
                                     "lora_bias",
                                     "pissa",
                                     "init_lora_weights",
                                     "target_modules",
                                     "layer_replication"};
  static const Words weight_words = {"dtype",
                                     "shape",
                                     "data_offsets",
                                     "F32",
                                     "F16",
                                     "I64",
                                     "base_model.model.layers.0.self_attn.k_proj.lora_A.weight"};
  auto parts = unbundle(input, 2);
  if (random.one_in(3))
    parts[1] = mutate_safetensors(parts[1], random, weight_words);
  else
    parts[0] = mutate_json(parts[0], random, config_words);
  return bundle(parts);
}

}  // namespace

const Target kAdapter = {"adapter", seeds, read, mutate};

}  // namespace vixen::fuzz
