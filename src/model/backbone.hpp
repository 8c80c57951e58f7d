// What an architecture supplies to an encoder: embeddings, layers, final pieces, traits, and the list of its weights.
// The loop over the layers, their recomputation and the announcement of finished gradients are LayeredEncoder's.
//   T positions of n sequences, D width, M pictures
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/traffic.hpp"
#include "model/adapters/lora.hpp"
#include "model/costs.hpp"
#include "model/encoder.hpp"
#include "model/encoder_options.hpp"
#include "model/weights/backbone_weights.hpp"

namespace vixen {

/// The parameters of a backbone in the store, by the piece whose backward pass makes their gradients final.
struct BackboneRanges {
  ParameterRange embeddings;
  std::vector<ParameterRange> layers;    // of each layer
  std::vector<ParameterRange> adapters;  // of each layer; empty ranges without LoRA
  ParameterRange final_pieces;           // behind the layers; empty: none
};

/// One pass over a batch with what it keeps for its backward: the state of a backbone between the calls of
/// LayeredEncoder. Every backward call frees what it used. All calls take the batch that the pass was begun with.
class BackbonePass {
 public:
  virtual ~BackbonePass() = default;

  /// -> x [T, D] in the compute dtype. images [M, D] float32, undefined without pictures. keep: for embed_backward.
  virtual at::Tensor embed(const PackedBatch& batch, const at::Tensor& images, bool keep) = 0;
  /// Layer i. keep: for layer_backward.
  virtual at::Tensor layer(size_t i, const at::Tensor& x, bool keep) = 0;
  /// Pooling and what is before it: -> h [n, D] float32. keep: for finish_backward.
  virtual at::Tensor finish(at::Tensor x, const PackedBatch& batch, bool keep) = 0;

  /// grad_h [n, D] -> gradient of finish()'s x.
  virtual at::Tensor finish_backward(const at::Tensor& grad_h, const PackedBatch& batch) = 0;
  /// What layer() keeps, to the bit, from the layer's input alone.
  virtual void recompute_layer(size_t i, const at::Tensor& x) = 0;
  /// want_grad_x false: may return undefined.
  virtual at::Tensor layer_backward(size_t i, const at::Tensor& grad, bool want_grad_x) = 0;
  /// -> gradient of the pictures, float32 [M, D].
  virtual at::Tensor embed_backward(const at::Tensor& grad, const PackedBatch& batch) = 0;
};

/// The part of a pass that is the layers, all of one kind. `Layer` has forward(x, shared, Saved*), recompute(x, shared)
/// and backward(grad, shared, Saved&, want_grad_x); `Shared` is what all layers of a pass see.
template <class Layer, class Shared>
class PassOver : public BackbonePass {
 public:
  PassOver(const std::vector<Layer>& layers, Shared shared)
      : shared_(std::move(shared)), layers_(&layers), kept_(layers.size()) {}

  at::Tensor layer(size_t i, const at::Tensor& x, bool keep) final {
    return (*layers_)[i].forward(x, shared_, keep ? &kept_[i] : nullptr);
  }
  void recompute_layer(size_t i, const at::Tensor& x) final { kept_[i] = (*layers_)[i].recompute(x, shared_); }
  at::Tensor layer_backward(size_t i, const at::Tensor& grad, bool want_grad_x) final {
    return (*layers_)[i].backward(grad, shared_, kept_[i], want_grad_x);
  }

 protected:
  Shared shared_;

 private:
  const std::vector<Layer>* layers_;
  std::vector<typename Layer::Saved> kept_;
};

class Backbone {
 public:
  virtual ~Backbone() = default;
  Backbone(const Backbone&) = delete;  // the linear layers are pointed at
  Backbone& operator=(const Backbone&) = delete;

  const EncoderTraits& traits() const { return traits_; }
  const BackboneRanges& ranges() const { return ranges_; }
  /// The weights of the folder and their parameters.
  const BackboneWeights& weights() const { return weights_; }
  /// The linear layers of all layers, in forward order; the first is that of the first layer's q | k | v.
  virtual std::vector<const AdaptedLinear*> linears() const = 0;
  /// What bounds traits().max_positions, for a message: "FOLDER/config.json: max_position_embeddings is 512".
  const std::string& position_limit() const { return position_limit_; }
  /// config.json of a saved model whose weights are of this dtype ("float32", "bfloat16").
  virtual std::string config_text(const std::string& dtype) const = 0;

  /// Constants on the store's device; after store.allocate(), before the first pass.
  virtual void make_constants() {}
  /// Of a batch with sequences, all of at most traits().max_positions.
  virtual std::unique_ptr<BackbonePass> begin(const PackedBatch& batch, const PassContext& context) const = 0;

  /// FLOPs of attention in one layer's forward pass.
  virtual double attention_flops(int64_t positions, int64_t sum_squared_lengths) const = 0;
  virtual LayerBytes layer_bytes(const BatchShape& shape, const KernelMoments& moments) const = 0;
  /// training: with dropout.
  virtual LayerTraffic layer_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool training) const = 0;
  /// Outside the layers, but for the image adapter's: `again` stays 0.
  virtual LayerTraffic end_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool training) const = 0;
  /// Bytes kept outside the layers, but for the image adapter's.
  virtual int64_t end_bytes(const BatchShape& shape) const = 0;

 protected:
  Backbone() = default;

  EncoderTraits traits_;
  BackboneRanges ranges_;
  BackboneWeights weights_;
  std::string position_limit_;
};

}  // namespace vixen
