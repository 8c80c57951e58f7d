// BERT and its like over packed sequences: one class, the names come from BertConfig.
//   T positions of n sequences, D width, M pictures
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/backbone.hpp"
#include "model/bert/bert_config.hpp"
#include "model/transformer_layer.hpp"

namespace vixen {

class BertBackbone final : public Backbone {
 public:
  /// UserError when lora.modules names none that an encoder has (no gate).
  BertBackbone(const EncoderOptions& options, const BertConfig& config, ParameterStore& store);

  std::vector<const AdaptedLinear*> linears() const override;
  std::string config_text(const std::string& dtype) const override;
  std::unique_ptr<BackbonePass> begin(const PackedBatch& batch, const PassContext& context) const override;
  double attention_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  LayerBytes layer_bytes(const BatchShape& shape, const KernelMoments& moments) const override;
  int64_t end_bytes(const BatchShape& shape) const override;
  LayerTraffic layer_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool training) const override;
  LayerTraffic end_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool training) const override;

 private:
  class Pass;

  /// Whether anything below the first layer learns from a batch with so many pictures.
  bool learns_below(int64_t images) const;
  void add_adapters(int64_t layer, TransformerLayerParameters& parameters);

  EncoderOptions options_;
  BertConfig config_;
  ParameterStore* store_;
  int word_ = -1, position_ = -1, type_ = -1, norm_weight_ = -1, norm_bias_ = -1;
  std::vector<TransformerLayer> layers_;
};

}  // namespace vixen
