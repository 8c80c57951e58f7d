// What the folder of a BERT-like encoder says about itself: config.json, and which tensors of model.safetensors become
// which parameters.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "model/bert/bert_variants.hpp"
#include "model/weights/backbone_weights.hpp"

namespace vixen {

struct BertConfig {
  const BertVariant* variant = nullptr;  // a row of kBertVariants
  int64_t width = 0;                     // D
  int64_t heads = 0;
  int64_t feed_forward = 0;  // F
  int64_t layers = 0;        // in use: the first ones of the folder's
  int64_t folder_layers = 0;
  int64_t vocabulary = 0;  // V
  int64_t positions = 0;   // P
  int64_t types = 0;       // rows of the type embeddings; 0: none
  double norm_eps = 1e-12;
  double hidden_dropout = 0;  // behind the embeddings and W2
  double out_dropout = 0;     // behind Wo
  double attention_dropout = 0;
};

/// Reads config.json of the folder, or the file itself when model.path names one. UserError names file and key:
/// unreadable, of another model_type, another activation than the exact gelu, relative positions, fewer layers than
/// model.layers asks for; settings that these encoders do not have (pooling, mask).
BertConfig read_bert_config(const ModelConfig& model);

/// In forward order: the embeddings' (their norm last), then kBertLayerParameters a layer.
std::vector<BackboneParameter> backbone_parameters(const BertConfig& config);
constexpr int kBertLayerParameters = 12;

/// The modules of a layer as the architecture names them, "encoder.layer.0.attention.self.query" and so on: what PEFT
/// calls them too.
struct BertLayerModules {
  std::string qkv;  // our name of the fused projection
  std::string query, key, value, out, norm1, ff1, ff2, norm2;
};
BertLayerModules layer_modules(const BertConfig& config, int64_t layer);

/// config.json of the layers in use, from the folder's. dtype: "float32" or "bfloat16".
std::string saved_config_text(const ModelConfig& model, const BertConfig& config, const std::string& dtype);

}  // namespace vixen
