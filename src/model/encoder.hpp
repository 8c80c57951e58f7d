// The text-and-picture encoder h(x) as arithmetic: packed sequences to embeddings, gradients of embeddings to those of
// parameters. Costs, files and how a model folder becomes an encoder: model/layered_encoder.hpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "data/packed_batch.hpp"
#include "model/packed_layout.hpp"

namespace vixen {

/// What an encoder is, apart from its weights.
struct EncoderTraits {
  int64_t width = 0;          // D of the embeddings
  int64_t layers = 0;         // in use
  int64_t vocabulary = 0;     // token ids are below this
  int64_t max_positions = 0;  // of a sequence, pictures included
  bool is_decoder = false;    // a language model, causal unless model.mask says otherwise
  PromptPolicy prompt = {};   // what [template] leaves open
};

class Encoder {
 public:
  virtual ~Encoder() = default;

  /// What a forward pass keeps for its backward. Opaque.
  struct Saved {
    virtual ~Saved() = default;
  };

  virtual const EncoderTraits& traits() const = 0;
  int64_t width() const { return traits().width; }
  int64_t n_layers() const { return traits().layers; }

  /// Whether passes over batches of one shape (data/graph_batch.hpp) enqueue the same work, so that they can be
  /// recorded.
  virtual bool is_recordable() const { return true; }

  /// From now on the first `layers` layers keep their input only, and are recomputed in the backward pass. The
  /// gradients are the same to the bit.
  virtual void set_recompute_layers(int64_t layers) = 0;

  /// h [n, D] float32, not normalised. saved null: inference.
  virtual at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) = 0;
  /// grad_h [n, D] float32; adds into the store's gradients. `batch` and `context` are those of the forward pass, whose
  /// `saved` is used up. When given, `on_ready(first, last)` is called as soon as the gradients of the parameters
  /// [first, last) are final, so that their all-reduce can start: the same calls in the same order for every batch, one
  /// without sequences included, since each is a collective.
  virtual void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                        const std::function<void(int, int)>& on_ready) = 0;
};

/// UserError when the data set's tokens or longest possible sequence (prompt and pictures included) are more than the
/// encoder knows.
void check_fits(const Encoder& encoder, const Dataset& dataset, const PackOptions& pack);

/// SHA-256 (hex) of the folder's tokenizer.json; UserError when it is missing.
std::string tokenizer_sha256(const std::filesystem::path& folder);

}  // namespace vixen
