// The text-and-picture encoder h(x): a Hugging Face backbone over packed sequences, mean-pooled, not normalised.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "config/config.hpp"
#include "data/packed_batch.hpp"
#include "model/parameters.hpp"

namespace vixen {

/// Which step a pass belongs to. training = false: no dropout.
struct PassContext {
  bool training = false;
  uint64_t seed = 0;
  uint64_t step = 0;
};

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
  /// FLOPs of a forward pass over T positions in sequences of the given squared-length sum (2 per multiply-add).
  virtual double forward_flops(int64_t positions, int64_t sum_squared_lengths) const = 0;

  /// h [n, D] float32. saved null: inference.
  virtual at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) = 0;
  /// grad_h [n, D] float32; adds into the store's gradients. When given, `on_ready(first, last)` is called as soon as
  /// the gradients of the parameters [first, last) are final, so that their all-reduce can start.
  virtual void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                        const std::function<void(int, int)>& on_ready) = 0;

  /// Writes config.json, model.safetensors (HF names, float32) and copies the tokenizer files: a folder that
  /// transformers' AutoModel loads. image_projection goes to image_projection.safetensors beside it.
  virtual void save(const std::filesystem::path& folder) const = 0;
};

/// What was read from config.json, enough to register parameters.
struct EncoderOptions {
  ModelConfig model;
  int64_t image_width = 0;  // I; 0: no image projection
};

/// Reads the folder's config.json ("bert" or "distilbert"; others are a UserError that lists these), registers
/// parameters in `store` (backbone first in forward order, then image_projection.weight [D, I] and .bias [D]). After
/// store.allocate(), call load_weights.
std::unique_ptr<Encoder> make_encoder(const EncoderOptions& options, ParameterStore& store);

/// Fills the encoder's parameters from the folder's model.safetensors (fp32, fp16 or bf16; prefix `bert.` or none) and
/// image_projection.safetensors when it is there, else initialises the projection (torch.nn.Linear's: uniform
/// +-1/sqrt(I), keyed by seed). UserError names file and tensor when something is missing or has another shape.
void load_encoder_weights(const EncoderOptions& options, ParameterStore& store, uint64_t seed);

/// UserError when the data set's tokens or longest possible sequence are more than the encoder knows.
void check_fits(const Encoder& encoder, const Dataset& dataset, bool images);

/// SHA-256 (hex) of the folder's tokenizer.json; UserError when it is missing.
std::string tokenizer_sha256(const std::filesystem::path& folder);

}  // namespace vixen
