// Units in which the parts of a model state what a pass over a batch costs. Each part says its own costs where its
// arithmetic is; EncoderCosts adds them up.
#pragma once

#include <ATen/core/ScalarType.h>

#include <cstdint>

#include "config/config.hpp"

namespace vixen {

struct BatchShape {
  int64_t positions = 0, sequences = 0, images = 0;
  int64_t sum_squared_lengths = 0;
  int64_t longest = 0;  // positions of the longest sequence that any batch may have: it decides the form of attention
};

/// Bytes of one layer for a batch.
struct LayerBytes {
  int64_t kept = 0;                // for the backward pass
  int64_t recomputed = 0;          // kept of a recomputed layer: its input
  int64_t transient_forward = 0;   // largest sum of tensors that live only within the forward pass
  int64_t transient_backward = 0;  // the same for the backward pass
};

/// Bytes that a layer reads and writes between its matrix products, attention included.
struct LayerTraffic {
  int64_t forward = 0;              // of a layer that is computed whole
  int64_t again = 0;                // of one that is recomputed in the backward pass
  int64_t backward = 0;             // of either
  bool attention_on_cores = false;  // KernelTraffic::attention_on_cores
};

/// The same of all layers and what is outside of them.
struct PassTraffic {
  int64_t forward = 0, backward = 0;
  int64_t again_a_layer = 0;  // of a layer that is recomputed
  /// FLOPs of attention in a layer's forward pass, where it is not products of the matrix units; else 0.
  double core_flops_a_layer = 0;
};

/// Bytes of a pass besides the store: tensors kept for the backward pass and the largest that live for a moment.
struct ActivationBytes {
  int64_t kept_a_layer = 0;        // of a layer whose activations are kept
  int64_t recomputed_a_layer = 0;  // of a recomputed layer: its input
  int64_t ends = 0;                // kept outside the layers: embeddings, pooling, pictures
  int64_t transient_forward = 0;   // largest sum of tensors that live only within a layer's forward pass
  int64_t transient_backward = 0;  // the same for a layer's backward pass
};

/// What model.compute asks for; known before the parameters are allocated.
inline at::ScalarType compute_dtype(const ModelConfig& model) {
  return model.compute == Compute::kFloat32 ? at::kFloat : at::kBFloat16;
}

}  // namespace vixen
