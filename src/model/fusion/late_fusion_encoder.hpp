// Late fusion (MUFIN-style): text and pictures are encoded apart and fused behind the pooling by one cross-attention
// block, in which the pooled text asks and the bag of text and projected pictures answers.
//   h_t [n, D] pooled text; v [M, D] projected pictures; bag of a sequence: [h_t, v...]
//   h = the block's output at h_t: a post-norm transformer layer as torch.nn.TransformerEncoderLayer, feed-forward D
#pragma once

#include <memory>
#include <vector>

#include "model/encoder.hpp"
#include "model/fusion/image_adapter.hpp"
#include "model/transformer_layer.hpp"

namespace vixen {

/// The block's weights in a folder, beside the image adapter's.
inline constexpr const char* kFusionFile = "fusion.safetensors";

class LateFusionEncoder final : public Encoder {
 public:
  /// Wraps a text encoder (made without picture positions); registers image adapter (none when options.image_width is
  /// 0: every bag is the text alone) and block ("fusion.*", groups kImage*, kFrozen when not trainable) behind it.
  /// UserError when model.fusion_heads does not divide the width.
  LateFusionEncoder(const EncoderOptions& options, std::unique_ptr<Encoder> text, ParameterStore& store);

  void check_weights() const override { text_->check_weights(); }
  void load_weights(uint64_t seed) override;
  int64_t width() const override { return text_->width(); }
  int64_t vocabulary() const override { return text_->vocabulary(); }
  int64_t max_positions() const override { return text_->max_positions(); }
  bool is_decoder() const override { return text_->is_decoder(); }
  int64_t n_layers() const override { return text_->n_layers(); }
  double forward_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  double backward_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  ActivationBytes activation_bytes(const BatchShape& shape) const override;
  void set_recompute_layers(int64_t layers) override { text_->set_recompute_layers(layers); }
  at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) override;
  void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                const std::function<void(int, int)>& on_ready) override;
  void save(const std::filesystem::path& folder) const override;
  void save_merged(const std::filesystem::path& folder, at::ScalarType dtype, int64_t max_shard_bytes) const override;

 private:
  struct Activations;

  void load_block(const std::vector<std::filesystem::path>& folders, uint64_t seed);
  void save_fusion(const std::filesystem::path& folder) const;

  EncoderOptions options_;
  std::unique_ptr<Encoder> text_;
  ParameterStore* store_;
  std::unique_ptr<ImageAdapter> images_;
  std::unique_ptr<TransformerLayer> block_;
};

}  // namespace vixen
