// A decoder language model as encoder h(x): Qwen2, Qwen3, Llama and Mistral over packed sequences, pooled.
//   T positions of n sequences, D width, M pictures of width I.
#pragma once

#include <vector>

#include "model/decoder_config.hpp"
#include "model/decoder_layer.hpp"
#include "model/encoder.hpp"
#include "model/image_adapter.hpp"

namespace vixen {

class DecoderEncoder final : public Encoder {
 public:
  DecoderEncoder(const EncoderOptions& options, const DecoderConfig& config, ParameterStore& store);

  void load_weights(uint64_t seed) override;
  int64_t width() const override { return config_.width; }
  int64_t vocabulary() const override { return config_.vocabulary; }
  int64_t max_positions() const override;
  bool is_decoder() const override { return true; }
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

  void add_adapters(int64_t layer, DecoderLayerParameters& parameters);
  void check(const PackedBatch& batch) const;
  DecoderPass pass_of(const PackedBatch& batch, const PassContext& context) const;
  bool wants_embedding_gradient(const PackedBatch& batch) const;
  std::vector<const AdaptedLinear*> linears() const;
  double attention_flops(int64_t positions, int64_t sum_squared_lengths) const;
  void save_backbone_files(const std::filesystem::path& folder, at::ScalarType dtype, int64_t max_shard_bytes) const;

  EncoderOptions options_;
  DecoderConfig config_;
  ParameterStore* store_;
  int first_ = 0;  // of the backbone's parameters
  int word_ = -1, final_norm_ = -1;
  std::unique_ptr<ImageAdapter> images_;  // null: no pictures
  std::vector<DecoderLayer> layers_;
  std::vector<Range> trained_;  // of each layer: its own parameters, or its adapters; empty for inference
  at::Tensor rope_;             // of all positions, on the store's device; made at load_weights
  int64_t recompute_layers_ = 0;
};

}  // namespace vixen
