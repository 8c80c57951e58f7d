// A decoder language model as backbone over packed sequences: what varies between architectures comes from
// DecoderConfig.
//   T positions of n sequences, D width, M pictures
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/backbone.hpp"
#include "model/decoder/decoder_config.hpp"
#include "model/decoder/decoder_layer.hpp"

namespace vixen {

class DecoderBackbone final : public Backbone {
 public:
  DecoderBackbone(const EncoderOptions& options, const DecoderConfig& config, ParameterStore& store);

  std::vector<const AdaptedLinear*> linears() const override;
  std::string config_text(const std::string& dtype) const override;
  void make_constants() override;
  std::unique_ptr<BackbonePass> begin(const PackedBatch& batch, const PassContext& context) const override;
  double attention_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  LayerBytes layer_bytes(const BatchShape& shape, const KernelMoments& moments) const override;
  int64_t end_bytes(const BatchShape& shape) const override;
  LayerTraffic layer_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool training) const override;
  LayerTraffic end_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool training) const override;

 private:
  class Pass;

  void add_adapters(int64_t layer, DecoderLayerParameters& parameters);
  bool is_causal() const { return options_.model.mask != Mask::kBidirectional; }
  bool pools_last() const { return options_.model.pooling == Pooling::kLastToken; }
  bool has_dropout() const { return options_.lora.rank > 0 && options_.lora.dropout > 0; }
  DecoderPass shared_of(const PackedBatch& batch, const PassContext& context) const;

  EncoderOptions options_;
  DecoderConfig config_;
  ParameterStore* store_;
  int word_ = -1, final_norm_ = -1;
  std::vector<DecoderLayer> layers_;
  at::Tensor rope_;  // of all positions, on the store's device
};

}  // namespace vixen
