// A decoder language model as encoder h(x): Qwen2, Qwen3, Llama and Mistral over packed sequences, pooled.
//   T positions of n sequences, D width, M pictures of width I.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/layered_encoder.hpp"
#include "model/decoder/decoder_config.hpp"
#include "model/decoder/decoder_layer.hpp"

namespace vixen {

class DecoderEncoder final : public BackboneEncoder {
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
  at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) override;
  void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                const std::function<void(int, int)>& on_ready) override;

 private:
  struct Activations;

  std::vector<BackboneParameter> backbone() const override { return backbone_parameters(config_); }
  /// Folders of AutoModel have no prefix, and save() writes none; those of AutoModelForCausalLM do.
  std::vector<std::string> prefixes() const override { return {"model.", ""}; }
  std::vector<const AdaptedLinear*> linears() const override;
  std::string config_text(const std::string& dtype) const override;

  void add_adapters(int64_t layer, DecoderLayerParameters& parameters);
  void check(const PackedBatch& batch) const;
  DecoderPass pass_of(const PackedBatch& batch, const PassContext& context) const;
  double attention_flops(int64_t positions, int64_t sum_squared_lengths) const;

  DecoderConfig config_;
  int word_ = -1, final_norm_ = -1;
  std::vector<DecoderLayer> layers_;
  std::vector<Range> trained_;  // of each layer: its own parameters, or its adapters; empty for inference
  at::Tensor rope_;             // of all positions, on the store's device; made at load_weights
};

}  // namespace vixen
