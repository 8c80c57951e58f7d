// The encoder of a model folder: a backbone (bert/, decoder/), adapters beside its weights, pictures among its
// positions (early fusion) or behind its pooling (late fusion). The one place with the loop over layers, their
// recomputation, and the announcement of finished gradients.
#pragma once

#include <memory>
#include <vector>

#include "model/adapters/lora.hpp"
#include "model/backbone.hpp"
#include "model/encoder.hpp"
#include "model/encoder_costs.hpp"
#include "model/encoder_files.hpp"
#include "model/fusion/image_adapter.hpp"
#include "model/fusion/late_fusion.hpp"

namespace vixen {

/// A piece of the backward pass.
struct BackwardPiece {
  bool is_layer = false;
  std::vector<ParameterRange> finished;  // their gradients are final behind it: announced in this order, trained ones
};

class LayeredEncoder final : public Encoder {
 public:
  /// `backbone` has registered its parameters and adapters; the image adapter and late fusion's block follow. UserError
  /// when model.fusion_heads does not divide the width.
  LayeredEncoder(const EncoderOptions& options, std::unique_ptr<Backbone> backbone, ParameterStore& store);

  const EncoderTraits& traits() const override { return backbone_->traits(); }
  // Late fusion takes a batch's texts out of it, whose number is not the shape's.
  bool is_recordable() const override { return late_ == nullptr; }
  void set_recompute_layers(int64_t layers) override { recompute_layers_ = layers; }
  at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) override;
  void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                const std::function<void(int, int)>& on_ready) override;

  /// The pieces in the order of backward(): late fusion's block, final pieces, layers from the last to the first, what
  /// is below them. Local, known as soon as the parameters are registered.
  std::vector<BackwardPiece> backward_pieces() const;

  /// FLOPs and bytes of passes, known as soon as the parameters are registered.
  EncoderCosts costs() const { return {options_, *backbone_, images_.get(), late_.get(), *store_}; }
  /// What the encoder is read from and written to.
  EncoderFiles files() const { return {options_, *backbone_, images_.get(), late_.get(), *store_}; }

 private:
  struct Kept;

  void check(const PackedBatch& batch, const PackedBatch& text) const;
  /// Whether anything below the first layer learns from this batch.
  bool wants_embedding_gradient(const PackedBatch& text) const;

  EncoderOptions options_;
  ParameterStore* store_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<ImageAdapter> images_;  // early fusion; null: no pictures among the positions
  std::unique_ptr<LateFusion> late_;      // null: early fusion
  int64_t recompute_layers_ = 0;
};

}  // namespace vixen
