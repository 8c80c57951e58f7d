// Late fusion (MUFIN-style): text and pictures are encoded apart and fused behind the pooling by one cross-attention
// block, in which the pooled text asks and the bag of text and projected pictures answers.
//   h_t [n, D] pooled text; v [M, D] projected pictures; bag of a sequence: [h_t, v...]
//   h = the block's output at h_t: a post-norm transformer layer as torch.nn.TransformerEncoderLayer, feed-forward D
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "data/packed_batch.hpp"
#include "model/encoder_options.hpp"
#include "model/fusion/image_adapter.hpp"
#include "model/transformer_layer.hpp"

namespace vixen {

/// The block's weights in a folder, beside the image adapter's.
inline constexpr const char* kFusionFile = "fusion.safetensors";

class LateFusion {
 public:
  /// Registers image adapter (none when options.image_width is 0: every bag is the text alone) and block ("fusion.*",
  /// groups kImage*, kFrozen when not trainable). UserError when model.fusion_heads does not divide the width D.
  LateFusion(const EncoderOptions& options, int64_t width, ParameterStore& store);

  /// From fusion.safetensors of the first of `folders` that has one, else torch's initial values, keyed by seed; so the
  /// image adapter. UserError naming file and tensor.
  void load(const std::vector<std::filesystem::path>& folders, uint64_t seed);
  void save(const std::filesystem::path& folder) const;

  /// A batch taken apart: what the text encoder sees, and the bags of the block.
  struct Parts {
    PackedBatch text;
    PackedLayout bags;      // n sequences of 1 + their pictures
    at::Tensor text_rows;   // int64 [n]: rows of the pooled texts among the n + M of the bags
    at::Tensor image_rows;  // int64 [M]: those of the pictures, in the order of the batch
  };
  struct Saved {
    ImageAdapter::Saved images;
    TransformerLayer::Saved block;
  };
  /// h_t [n, D] float32 -> h [n, D] float32. saved null: inference.
  at::Tensor forward(const at::Tensor& text, const PackedBatch& batch, const Parts& parts, Saved* saved) const;
  /// grad_h [n, D] -> gradient of h_t, float32; adds into the store's gradients.
  at::Tensor backward(const at::Tensor& grad_h, const PackedBatch& batch, const Parts& parts, Saved& saved) const;

  bool has_images() const { return images_ != nullptr; }
  ParameterRange block_parameters() const;
  ParameterRange image_parameters() const;  // empty without image adapter
  /// What it keeps and what lives for a moment: of the whole batch, pictures among its positions.
  LayerBytes bytes(const BatchShape& shape, const KernelMoments& moments) const;

 private:
  void load_block(const std::filesystem::path& path);

  ParameterStore* store_;
  int64_t width_;
  std::unique_ptr<ImageAdapter> images_;
  std::unique_ptr<TransformerLayer> block_;
};

/// Of a batch with sequences.
LateFusion::Parts take_apart(const PackedBatch& batch);

}  // namespace vixen
