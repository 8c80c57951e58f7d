// The text-and-picture encoder h(x): a Hugging Face backbone over packed sequences, pooled, not normalised.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "data/packed_batch.hpp"
#include "model/packed_layout.hpp"
#include "model/parameters.hpp"

namespace vixen {

class Encoder {
 public:
  virtual ~Encoder() = default;

  /// What a forward pass keeps for its backward. Opaque.
  struct Saved {
    virtual ~Saved() = default;
  };

  virtual int64_t width() const = 0;
  /// Token ids are below this; positions of a sequence (pictures included) at most max_positions().
  virtual int64_t vocabulary() const = 0;
  virtual int64_t max_positions() const = 0;
  /// Decoders have a prompt by default, the text first, and take other learning rates.
  virtual bool is_decoder() const { return false; }
  virtual int64_t n_layers() const = 0;

  /// UserError naming file and tensor when the folder's weights are not those that its config.json describes. Reads
  /// headers only, before store.allocate(): a wrong size is no failed allocation.
  virtual void check_weights() const = 0;
  /// Fills the parameters from the folder's weights, and from lora.adapter or a keyed initialisation what the folder
  /// does not have (adapters, image adapter, fusion block). After store.allocate(); refreshes the compute copies.
  /// UserError names file and tensor when something is missing or has another shape.
  virtual void load_weights(uint64_t seed) = 0;

  /// FLOPs of a forward pass over T positions in sequences of the given squared-length sum (2 per multiply-add).
  virtual double forward_flops(int64_t positions, int64_t sum_squared_lengths) const = 0;
  /// FLOPs of the backward pass, without recomputation: gradients of inputs, and of the weights that are trained.
  virtual double backward_flops(int64_t positions, int64_t sum_squared_lengths) const = 0;

  /// What a pass over a batch of this shape takes of memory besides the store: tensors kept for the backward pass and
  /// the largest that live for a moment.
  struct BatchShape {
    int64_t positions = 0, sequences = 0, images = 0;
    int64_t sum_squared_lengths = 0;
  };
  struct ActivationBytes {
    int64_t kept_a_layer = 0;        // of a layer whose activations are kept
    int64_t recomputed_a_layer = 0;  // of a layer that is computed again: its input
    int64_t ends = 0;                // kept outside the layers: embeddings, pooling, pictures
    int64_t transient_forward = 0;   // largest sum of tensors that live only within a layer's forward pass
    int64_t transient_backward = 0;  // the same for a layer's backward pass
  };
  virtual ActivationBytes activation_bytes(const BatchShape& shape) const = 0;
  /// From now on the first `layers` layers keep their input only, and are computed again in the backward pass. The
  /// gradients are the same to the bit.
  virtual void set_recompute_layers(int64_t layers) = 0;

  /// h [n, D] float32. saved null: inference.
  virtual at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) = 0;
  /// grad_h [n, D] float32; adds into the store's gradients. When given, `on_ready(first, last)` is called as soon as
  /// the gradients of the parameters [first, last) are final, so that their all-reduce can start.
  virtual void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                        const std::function<void(int, int)>& on_ready) = 0;

  /// What a run keeps. The whole backbone trained: config.json, model.safetensors (HF names, float32) and the tokenizer
  /// files, a folder that transformers' AutoModel loads. Adapters: a PEFT folder (adapter_config.json,
  /// adapter_model.safetensors) with the tokenizer files. The image adapter goes to image_projection.safetensors beside
  /// it, late fusion's block to fusion.safetensors.
  virtual void save(const std::filesystem::path& folder) const = 0;
  /// The folder that AutoModel loads, adapters merged into the weights; shards and index beyond max_shard_bytes. dtype
  /// float32 or bfloat16. The rest as save().
  virtual void save_merged(const std::filesystem::path& folder, at::ScalarType dtype,
                           int64_t max_shard_bytes) const = 0;
};

/// What was read from config.json, enough to register parameters.
struct EncoderOptions {
  ModelConfig model;
  LoraConfig lora;          // rank 0: the whole backbone is trained
  int64_t image_width = 0;  // I; 0: no image adapter
  bool trainable = true;    // false: inference; everything is frozen, nothing has a gradient buffer

  /// Where what is not the backbone's may lie (image adapter, fusion block): beside the adapter, then beside the base.
  std::vector<std::filesystem::path> folders() const;
};

/// Reads the folder's config.json (an unknown model_type is a UserError that lists the known ones), takes the settings
/// of lora.adapter, registers parameters in `store`: backbone in forward order (frozen with adapters or for inference),
/// the adapters in forward order, the image adapter, late fusion's block. After store.allocate(), call
/// load_weights.
std::unique_ptr<Encoder> make_encoder(const EncoderOptions& options, ParameterStore& store);

/// UserError when the data set's tokens or longest possible sequence (prompt and pictures included) are more than the
/// encoder knows.
void check_fits(const Encoder& encoder, const Dataset& dataset, const PackOptions& pack);

/// SHA-256 (hex) of the folder's tokenizer.json; UserError when it is missing.
std::string tokenizer_sha256(const std::filesystem::path& folder);

}  // namespace vixen
