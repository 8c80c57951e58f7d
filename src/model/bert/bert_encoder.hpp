// BERT and DistilBERT over packed sequences: one class, the names come from BertConfig.
//   T positions of n sequences, D width, M pictures of width I.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/layered_encoder.hpp"
#include "model/bert/bert_config.hpp"
#include "model/transformer_layer.hpp"

namespace vixen {

class BertEncoder final : public BackboneEncoder {
 public:
  /// UserError when lora.modules names none that an encoder has (no gate).
  BertEncoder(const EncoderOptions& options, const BertConfig& config, ParameterStore& store);

  int64_t width() const override { return config_.width; }
  int64_t vocabulary() const override { return config_.vocabulary; }
  int64_t max_positions() const override { return config_.positions; }
  int64_t n_layers() const override { return config_.layers; }
  double forward_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  double backward_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  ActivationBytes activation_bytes(const BatchShape& shape) const override;
  at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) override;
  void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                const std::function<void(int, int)>& on_ready) override;

 private:
  struct Activations;

  std::vector<BackboneParameter> backbone() const override { return backbone_parameters(config_); }
  std::vector<std::string> prefixes() const override { return {"", checkpoint_prefix(config_)}; }
  std::vector<const AdaptedLinear*> linears() const override;
  std::string config_text(const std::string& dtype) const override;

  void add_adapters(int64_t layer, TransformerLayerParameters& parameters);
  void check(const PackedBatch& batch) const;
  void embeddings_backward(const at::Tensor& grad, const PackedBatch& batch, const PassContext& context,
                           Activations& kept);

  BertConfig config_;
  int first_layer_ = 0;  // of the first layer's parameters
  int word_ = -1, position_ = -1, type_ = -1, norm_weight_ = -1, norm_bias_ = -1;
  std::vector<TransformerLayer> layers_;
  std::vector<Range> adapters_;  // of each layer; empty ranges without LoRA
};

}  // namespace vixen
