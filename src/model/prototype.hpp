// Label prototypes (PRIME): z = mean over the three positions of a TransformerEncoderLayer over [u, f, c].
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "config/config.hpp"
#include "model/encoder.hpp"
#include "model/parameters.hpp"
#include "model/transformer_layer.hpp"

namespace vixen {

class PrototypeNetwork {
 public:
  /// Registers "prototype.*" parameters (torch.nn.TransformerEncoderLayer's names behind the prefix).
  PrototypeNetwork(const PrototypeConfig& config, int64_t width, ParameterStore& store);
  ~PrototypeNetwork();

  /// As torch initialises the layer: Xavier-uniform in_proj, Linear defaults elsewhere, in_proj and out_proj biases 0,
  /// norms 1 and 0. After store.allocate(). Keyed by seed.
  void initialise(uint64_t seed);

  struct Saved {
    TransformerLayer::Saved layer;
    PackedLayout layout;
  };
  /// u [b, D] unnormalised, f [b, D], c [b, D] float32 -> z [b, D] float32, not normalised. sequence_keys int64 [b]:
  /// the labels' places in the global batch (dropout). saved null: inference.
  at::Tensor forward(const at::Tensor& u, const at::Tensor& f, const at::Tensor& c, const at::Tensor& sequence_keys,
                     const PassContext& context, std::unique_ptr<Saved>* saved);
  /// The network's parameters are [first_parameter(), last_parameter()) of the store.
  int first_parameter() const;
  int last_parameter() const;

  struct Gradient {
    at::Tensor u, f;  // [b, D]; centroids take none
  };
  Gradient backward(const at::Tensor& grad_z, const PassContext& context, Saved& saved);

  /// What a training pass over `rows` labels keeps for its backward pass, and what that holds besides for a moment.
  struct Bytes {
    int64_t kept = 0, moment = 0;
  };
  /// dtype: of model.compute. cpu: by the kernels of CPUs, else those of a device.
  static Bytes bytes(const PrototypeConfig& config, int64_t width, int64_t rows, at::ScalarType dtype, bool cpu);
  /// FLOPs of a forward pass; the backward pass takes twice that.
  static double forward_flops(const PrototypeConfig& config, int64_t width, double rows);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vixen
