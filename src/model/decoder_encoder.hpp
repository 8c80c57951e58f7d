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

  EncoderOptions options_;
  DecoderConfig config_;
  ParameterStore* store_;
  int first_ = 0, end_ = 0;  // our parameters in the store
  int word_ = -1, final_norm_ = -1;
  std::unique_ptr<ImageAdapter> images_;
  std::vector<DecoderLayer> layers_;
  at::Tensor rope_;  // made at load_weights, grown when a longer position comes
  int64_t recompute_layers_ = 0;
};

}  // namespace vixen
