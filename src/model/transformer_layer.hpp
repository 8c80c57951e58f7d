// One post-norm transformer layer over packed sequences, forward and explicit backward: BERT's, DistilBERT's, and (with
// sequences of three) the label prototype network's.
//   x [T, D] in the compute dtype
//   a  = LN1(x + drop(Wo attention(Wqkv x)))
//   y  = LN2(a + drop(W2 drop_act(gelu(W1 a))))
// T packed positions, D width, F feed-forward width.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dropout.hpp"
#include "kernels/moments.hpp"
#include "kernels/norm.hpp"
#include "kernels/packed_attention.hpp"
#include "model/adapters/lora.hpp"
#include "model/costs.hpp"
#include "model/packed_layout.hpp"
#include "model/parameters.hpp"

namespace vixen {

struct TransformerLayerOptions {
  int64_t width = 0;  // D
  int64_t heads = 0;
  int64_t feed_forward = 0;  // F
  double norm_eps = 1e-12;
  double out_dropout = 0;     // after Wo (DistilBERT has none)
  double hidden_dropout = 0;  // after W2
  double attention_dropout = 0;
  double activation_dropout = 0;  // torch.nn.TransformerEncoderLayer has one; BERT has none
  uint32_t first_site = 0;  // dropout sites first_site .. first_site + 3 (attention, after Wo, activation, after W2)
};

/// Indices into a ParameterStore. qkv is [3D, D], q | k | v. Any of the four may have adapters.
struct TransformerLayerParameters {
  AdaptedLinear qkv, out, ff1, ff2;
  int norm1_weight = -1, norm1_bias = -1, norm2_weight = -1, norm2_bias = -1;
};

class TransformerLayer {
 public:
  TransformerLayer(ParameterStore& store, TransformerLayerOptions options, TransformerLayerParameters parameters);

  /// What the backward needs; (8 + 2 F/D) T D elements of the compute dtype and a little more.
  struct Saved {
    at::Tensor input, qkv, ff_pre, ff_act;
    at::Tensor u_qkv, u_out, u_ff1, u_ff2;  // x A^T of the adapters
    AttentionResult attention;
    NormResult norm1, norm2;  // norm2.y is not kept
  };
  /// saved may be null: nothing is kept.
  at::Tensor forward(const at::Tensor& x, const PackedLayout& layout, Saved* saved) const;
  /// What forward keeps, to the bit, from its input alone: for a layer whose activations were not kept.
  Saved recompute(const at::Tensor& x, const PackedLayout& layout) const;
  /// grad_y [T, D] -> gradient of x; adds the gradients of trained parameters into the store. Frees what it used of
  /// saved. want_grad_x false: returns undefined.
  at::Tensor backward(const at::Tensor& grad_y, const PackedLayout& layout, Saved& saved,
                      bool want_grad_x = true) const;

  /// FLOPs of attention in a forward pass: two products over all pairs of a sequence.
  double attention_flops(int64_t positions, int64_t sum_squared_lengths) const;
  /// What a pass over a batch in `dtype` allocates; of its kernels what `moments` says.
  LayerBytes bytes(const BatchShape& shape, at::ScalarType dtype, const KernelMoments& moments) const;
  /// What it reads and writes between its products. training: with dropout.
  LayerTraffic traffic(const BatchShape& shape, const KernelTraffic& kernels, bool training) const;
  /// Bytes of a layer without adapters.
  static LayerBytes bytes(const TransformerLayerOptions& options, const BatchShape& shape, at::ScalarType dtype,
                          const KernelMoments& moments);

  const TransformerLayerParameters& parameters() const { return parameters_; }
  const TransformerLayerOptions& options() const { return options_; }

 private:
  ParameterStore* store_;
  TransformerLayerOptions options_;
  TransformerLayerParameters parameters_;
};

}  // namespace vixen
