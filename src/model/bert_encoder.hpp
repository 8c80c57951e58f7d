// BERT and DistilBERT over packed sequences: one class, the names come from BertConfig.
//   T positions of n sequences, D width, M pictures of width I.
#pragma once

#include <memory>
#include <vector>

#include "model/bert_config.hpp"
#include "model/encoder.hpp"
#include "model/image_adapter.hpp"
#include "model/transformer_layer.hpp"

namespace vixen {

class BertEncoder final : public Encoder {
 public:
  /// UserError when lora.modules names none that an encoder has (no gate).
  BertEncoder(const EncoderOptions& options, const BertConfig& config, ParameterStore& store);

  void load_weights(uint64_t seed) override;
  int64_t width() const override { return config_.width; }
  int64_t vocabulary() const override { return config_.vocabulary; }
  int64_t max_positions() const override { return config_.positions; }
  int64_t n_layers() const override { return config_.layers; }
  double forward_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  double backward_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  ActivationBytes activation_bytes(const BatchShape& shape) const override;
  void set_recompute_layers(int64_t layers) override { recompute_layers_ = layers; }
  at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) override;
  void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                const std::function<void(int, int)>& on_ready) override;
  void save(const std::filesystem::path& folder) const override;
  void save_merged(const std::filesystem::path& folder, at::ScalarType dtype, int64_t max_shard_bytes) const override;

 private:
  struct Activations;
  struct Range {  // of the store's parameters
    int first = 0, last = 0;
  };

  void add_adapters(int64_t layer, TransformerLayerParameters& parameters);
  PackedLayout layout(const PackedBatch& batch, const PassContext& context) const;
  void check(const PackedBatch& batch) const;
  bool wants_embedding_gradient(const PackedBatch& batch) const;
  void embeddings_backward(const at::Tensor& grad, const PackedBatch& batch, const PassContext& context,
                           Activations& kept);
  std::vector<const AdaptedLinear*> linears() const;

  EncoderOptions options_;
  BertConfig config_;
  ParameterStore* store_;
  int first_ = 0, first_layer_ = 0;  // of the backbone's parameters; of its first layer's
  int word_ = -1, position_ = -1, type_ = -1, norm_weight_ = -1, norm_bias_ = -1;
  std::vector<TransformerLayer> layers_;
  std::vector<Range> adapters_;           // of each layer; empty ranges without LoRA
  std::unique_ptr<ImageAdapter> images_;  // null: no pictures
  int64_t recompute_layers_ = 0;
};

}  // namespace vixen
