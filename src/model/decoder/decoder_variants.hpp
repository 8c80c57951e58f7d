// The decoder architectures: one network, a row of traits and names each. A variant is added by a row here and a sample
// in tests/unit/variants_test.cpp.
#pragma once

#include <cstdint>
#include <string_view>

#include "model/variants.hpp"

namespace vixen {

/// Which layers attend within sliding_window positions only.
enum class WindowRule {
  kNone,      // no layer, whatever config.json says
  kAll,       // all, unless sliding_window is null; 4096 where config.json is silent
  kByLayers,  // none without use_sliding_window; else by layer_types, or all from max_window_layers on
};

/// Hugging Face's names of the tensors (without prefix and ".weight"), and ours of the fused projections. Those of a
/// layer follow "layers.I.".
struct DecoderModules {
  std::string_view embedding = "embed_tokens", norm = "norm";
  std::string_view layers = "layers.";
  std::string_view norm1 = "input_layernorm", norm2 = "post_attention_layernorm";
  std::string_view qkv = "self_attn.qkv_proj";
  std::string_view query = "self_attn.q_proj", key = "self_attn.k_proj", value = "self_attn.v_proj";
  std::string_view q_norm = "self_attn.q_norm", k_norm = "self_attn.k_norm";
  std::string_view out = "self_attn.o_proj";
  std::string_view gate_up = "mlp.gate_up_proj";
  std::string_view gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj";
};

struct DecoderVariant {
  std::string_view model_type;   // of config.json
  std::string_view model_class;  // of transformers, written into a saved config.json
  /// What a checkpoint of the causal language model puts before the tensors' names; those of the bare model and ours
  /// have none.
  std::string_view prefix = "model.";
  bool qkv_bias = false;           // q, k and v always have biases
  bool optional_bias = false;      // q, k, v and o have them where attention_bias is true
  bool optional_mlp_bias = false;  // gate, up and down where mlp_bias is true
  bool head_norm = false;          // RMS norm of the heads of q and k
  bool optional_kv_heads = false;  // num_key_value_heads may be missing: as many as heads
  int64_t head_dim = 0;            // where config.json is silent; 0: width / heads
  WindowRule window = WindowRule::kNone;
  DecoderModules modules = {};
};

inline constexpr DecoderVariant kDecoderVariants[] = {
    {.model_type = "qwen2", .model_class = "Qwen2Model", .qkv_bias = true, .window = WindowRule::kByLayers},
    {.model_type = "qwen3",
     .model_class = "Qwen3Model",
     .optional_bias = true,
     .head_norm = true,
     .head_dim = 128,
     .window = WindowRule::kByLayers},
    {.model_type = "llama",  // SmolLM2 too
     .model_class = "LlamaModel",
     .optional_bias = true,
     .optional_mlp_bias = true,
     .optional_kv_heads = true},
    {.model_type = "mistral", .model_class = "MistralModel", .window = WindowRule::kAll},
};

}  // namespace vixen
