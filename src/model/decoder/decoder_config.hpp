// What the folder of a decoder says about itself: config.json, and which tensors become which parameters.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "model/decoder/decoder_variants.hpp"
#include "model/weights/backbone_weights.hpp"

namespace vixen {

/// rope_scaling / rope_parameters of config.json, as transformers' modeling_rope_utils defines the kinds.
struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3, kYarn } kind = Kind::kNone;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;            // llama3
  int64_t original_positions = 0;                              // llama3, yarn
  double beta_fast = 32, beta_slow = 1, attention_factor = 0;  // yarn; attention_factor 0: from factor
  bool truncate = true;                                        // yarn: the ramp is truncated to whole pairs
};
/// What yarn multiplies cos and sin by: 0.1 scale ln(factor) + 1, or 1 without stretching.
double yarn_attention_factor(double factor, double scale);

struct DecoderConfig {
  const DecoderVariant* variant = nullptr;  // a row of kDecoderVariants
  int64_t width = 0;                        // D
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t feed_forward = 0;  // F
  int64_t layers = 0;        // in use: the first ones of the folder's
  int64_t folder_layers = 0;
  int64_t vocabulary = 0;
  int64_t positions = 0;
  double norm_eps = 1e-6;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  bool head_norm = false;  // RMS norm of q and k heads
  bool tied_embeddings = false;
  int64_t sliding_window = 0;  // 0: none; sequences must be shorter

  int64_t qkv_rows() const { return (heads + 2 * kv_heads) * head_dim; }
};

/// Reads config.json of the folder (or the file itself when path names one: `vixen plan` needs no weights). UserError
/// names file and key: unreadable, unknown model_type, activation other than silu, heads that do not divide, a
/// rope_scaling kind we do not know, fewer layers than model.layers asks for.
DecoderConfig read_decoder_config(const ModelConfig& model);

/// In forward order: the embedding, then a layer's norms and linear layers as in DecoderModules (q, k and v are one
/// parameter, gate and up another), then the last norm.
std::vector<BackboneParameter> backbone_parameters(const DecoderConfig& config);

/// The modules of a layer as the architecture names them, "layers.0.self_attn.q_proj" and so on: what PEFT calls them
/// too.
struct DecoderLayerModules {
  std::string norm1, qkv, query, key, value, q_norm, k_norm, out, norm2, gate_up, gate, up, down;
};
DecoderLayerModules layer_modules(const DecoderConfig& config, int64_t layer);

/// cos | sin of positions 0 .. positions-1, float32 [positions, d], with the scaling applied (computed in float32 as
/// transformers does).
at::Tensor rope_table(const DecoderConfig& config, int64_t positions);

/// config.json of the layers in use, from the folder's.
std::string saved_config_text(const ModelConfig& model, const DecoderConfig& config, const std::string& torch_dtype);

}  // namespace vixen
