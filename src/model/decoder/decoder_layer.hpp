// One pre-norm decoder layer over packed sequences, forward and explicit backward.
//   x [T, D] in the compute dtype
//   a = x + Wo attention(rope(Wqkv rms1(x)))
//   y = a + Wdown swiglu(Wgateup rms2(a))
// T packed positions, D width, H query heads and Hkv key-value heads of d columns, F feed-forward width. Every W may
// have an adapter (model/adapters/lora.hpp).
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/packed_attention.hpp"
#include "kernels/rms_norm.hpp"
#include "model/adapters/lora.hpp"
#include "model/costs.hpp"
#include "model/decoder/decoder_config.hpp"
#include "model/packed_layout.hpp"

namespace vixen {

struct DecoderLayerParameters {
  int norm1 = -1, norm2 = -1;    // [D]
  int q_norm = -1, k_norm = -1;  // [d]; -1: no head norm
  AdaptedLinear qkv, out, gate_up, down;
};

/// What all layers of a pass share.
struct DecoderPass {
  PackedLayout layout;
  at::Tensor position_ids;  // int64 [T]
  at::Tensor rope;          // float32 [P, d]
  AttentionShape attention;
};

class DecoderLayer {
 public:
  DecoderLayer(ParameterStore& store, const DecoderConfig& config, DecoderLayerParameters parameters);

  /// What the backward needs: (2 D + (H + 2 Hkv) d + H d + 2 F) T elements of the compute dtype, x A^T of the adapters,
  /// and a few numbers a position. Normalised inputs and the activation of the feed-forward block are recomputed.
  struct Saved {
    at::Tensor input;  // x
    at::Tensor rstd1;  // [T]
    at::Tensor qkv;    // before head norm where there is one, else rotated
    at::Tensor head_rstd;
    AttentionResult attention;
    at::Tensor middle;  // a
    at::Tensor rstd2;
    at::Tensor gate_up;
    at::Tensor u_qkv, u_out, u_gate_up, u_down;  // x A^T of the adapters
  };
  /// saved null: nothing is kept.
  at::Tensor forward(const at::Tensor& x, const DecoderPass& pass, Saved* saved) const;
  /// What forward keeps, to the bit, from its input alone: for a layer whose activations were not kept.
  Saved recompute(const at::Tensor& x, const DecoderPass& pass) const;
  /// grad_y [T, D] -> gradient of x; gradients of trained parameters into the store. Frees what it used of saved.
  /// want_grad_x false (first layer of a frozen base without pictures): returns undefined.
  at::Tensor backward(const at::Tensor& grad_y, const DecoderPass& pass, Saved& saved, bool want_grad_x) const;

  /// FLOPs of attention in a forward pass: scores and their product with the values, over the pairs that see each
  /// other.
  double attention_flops(int64_t positions, int64_t sum_squared_lengths, bool causal) const;
  /// What a pass over T positions in `dtype` allocates.
  LayerBytes bytes(const BatchShape& shape, at::ScalarType dtype, const KernelMoments& moments) const;
  /// What it reads and writes between its products. training: with the adapters' dropout.
  LayerTraffic traffic(const BatchShape& shape, const KernelTraffic& kernels, bool training) const;

  const DecoderLayerParameters& parameters() const { return parameters_; }

 private:
  at::Tensor attention_input(const at::Tensor& qkv, const DecoderPass& pass, at::Tensor* head_rstd) const;
  at::Tensor run(const at::Tensor& x, const DecoderPass& pass, Saved* saved, bool want_y) const;

  ParameterStore* store_;
  DecoderConfig config_;
  DecoderLayerParameters parameters_;
};

}  // namespace vixen
