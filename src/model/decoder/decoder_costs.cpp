// What a pass of a decoder costs: FLOPs, and bytes of activations as decoder_layer.cpp allocates and frees them.
//   T positions of n sequences, D width, Q = H d and R = (H + 2 Hkv) d columns of heads, F feed-forward width
#include <algorithm>

#include "model/decoder/decoder_encoder.hpp"

namespace vixen {
namespace {

constexpr int64_t kFloatBytes = 4;

// Multiply-adds a position of W, and of the adapter beside it.
double weight_products(const ParameterStore& store, const AdaptedLinear& linear) {
  return static_cast<double>(store.info(linear.weight).elements());
}
double adapter_products(const ParameterStore& store, const AdaptedLinear& linear) {
  return static_cast<double>(lora_products(store, linear));
}

// Bytes that one adapted linear layer takes for a moment, as lora.cpp does it: with the merged weight in float32, with
// u = x A^T in bfloat16 or under dropout.
struct LinearBytes {
  int64_t kept_u = 0;    // in the forward pass, for the backward
  int64_t forward = 0;   // besides x and y, when nothing is kept
  int64_t backward = 0;  // besides the gradient of y, x and what was kept; the gradient of x included
};

LinearBytes linear_bytes(const ParameterStore& store, const AdaptedLinear& linear, at::ScalarType dtype,
                         int64_t positions) {
  const ParameterInfo& weight = store.info(linear.weight);
  const auto element = static_cast<int64_t>(at::elementSize(dtype));
  const int64_t x = element * positions * weight.shape.at(1);
  LinearBytes bytes;
  bytes.backward = x;
  // Products in bfloat16 are rounded once, before they are added to the float32 gradient.
  if (store.trained(linear.weight) && dtype != at::kFloat) bytes.backward = std::max(x, element * weight.elements());
  if (linear.lora_a < 0) return bytes;
  const int64_t u = element * positions * store.info(linear.lora_a).shape.at(0);
  bytes.kept_u = element * positions * kept_columns(store, linear, dtype);
  if (const int64_t merged = merged_bytes(store, linear, dtype); merged > 0) {
    bytes.forward = merged;
    bytes.backward = u + std::max(u, x + merged);
  } else {
    const int64_t dropped = linear.dropout > 0 ? x : 0;  // x, and then its gradient, once more under the mask
    bytes.forward = u + dropped;
    bytes.backward = u + x + dropped;
  }
  return bytes;
}

}  // namespace

// Scores and their product with the values: two products over the pairs that see each other.
double DecoderEncoder::attention_flops(int64_t positions, int64_t sum_squared_lengths) const {
  const bool causal = options_.model.mask != Mask::kBidirectional;
  const double pairs =
      causal ? 0.5 * static_cast<double>(sum_squared_lengths + positions) : static_cast<double>(sum_squared_lengths);
  return 2 * 2 * pairs * static_cast<double>(config_.layers * config_.heads * config_.head_dim);
}

double DecoderEncoder::forward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  double products = 0;
  for (const AdaptedLinear* linear : linears())
    products += weight_products(*store_, *linear) + adapter_products(*store_, *linear);
  return 2 * static_cast<double>(positions) * products + attention_flops(positions, sum_squared_lengths);
}

double DecoderEncoder::backward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  double products = 0;
  for (const AdaptedLinear* linear : linears()) {
    const double weights = weight_products(*store_, *linear);
    products += weights;                                       // gradient of the input
    if (store_->trained(linear->weight)) products += weights;  // and of the weight
    products += 2 * adapter_products(*store_, *linear);
  }
  // Nothing below the first projection asks for its input's gradient.
  if (!store_->trained(word_) && images_ == nullptr)
    products -= weight_products(*store_, layers_.front().parameters().qkv);
  return 2 * static_cast<double>(positions) * products + 2 * attention_flops(positions, sum_squared_lengths);
}

Encoder::ActivationBytes DecoderEncoder::activation_bytes(const BatchShape& shape) const {
  const auto dtype = options_.model.compute == Compute::kFloat32 ? at::kFloat : at::kBFloat16;
  const auto element = static_cast<int64_t>(at::elementSize(dtype));
  const int64_t t = shape.positions, n = shape.sequences;
  const int64_t d = element * t * config_.width, f = element * t * config_.feed_forward;
  const int64_t q = element * t * config_.heads * config_.head_dim, r = element * t * config_.qkv_rows();
  const int64_t normed = config_.head_norm ? r : 0;  // the second q | k | v that a head norm makes
  const int64_t head_statistics = config_.head_norm ? kFloatBytes * t * (config_.heads + config_.kv_heads) : 0;
  const int64_t lse = kFloatBytes * t * config_.heads, norm_statistics = 2 * kFloatBytes * t;
  const bool dropout = options_.lora.rank > 0 && options_.lora.dropout > 0;
  const auto& p = layers_.front().parameters();
  const auto bytes_of = [&](const AdaptedLinear& linear) { return linear_bytes(*store_, linear, dtype, t); };
  const LinearBytes qkv = bytes_of(p.qkv), out = bytes_of(p.out), gate_up = bytes_of(p.gate_up),
                    down = bytes_of(p.down);

  ActivationBytes bytes;
  bytes.recomputed_a_layer = d;
  bytes.kept_a_layer = 2 * d + r + q + 2 * f + lse + norm_statistics + head_statistics + qkv.kept_u + out.kept_u +
                       gate_up.kept_u + down.kept_u;

  // The last norm's input and statistics, h, the hidden units of the image adapter, the keys of dropout.
  const bool last = options_.model.pooling == Pooling::kLastToken;
  bytes.ends = (last ? kFloatBytes * n * (config_.width + 1) : d + kFloatBytes * t) + kFloatBytes * n * config_.width;
  if (images_ != nullptr) bytes.ends += element * shape.images * images_->hidden_width();
  if (dropout) bytes.ends += t * (8 + 4);

  // A layer that keeps nothing (its input is counted), at each point where one tensor more is there.
  bytes.transient_forward = norm_statistics + std::max({2 * d + r + qkv.forward,           // first projection
                                                        d + r + normed + head_statistics,  // head norm
                                                        d + r + q + lse,                   // attention
                                                        2 * d + q + lse + out.forward,     // output projection
                                                        4 * d,                             // second norm
                                                        3 * d + 2 * f + gate_up.forward,   // gate and up
                                                        2 * d + 3 * f,                     // activation
                                                        3 * d + f + down.forward});        // down
  // A layer that kept everything: what comes on top of that, less what has been freed of it by then. The gradient of
  // its output lives throughout.
  int64_t freed = 0;
  bytes.transient_backward = d + f + down.backward;
  const auto point = [&](int64_t live) { bytes.transient_backward = std::max(bytes.transient_backward, live - freed); };
  freed += down.kept_u;
  point(d + 3 * f);  // activation
  freed += 2 * f;
  point(2 * d + 2 * f + gate_up.backward);
  freed += gate_up.kept_u;
  point(3 * d);  // second norm
  freed += d;
  point(2 * d + out.backward);
  freed += out.kept_u;
  point(2 * d + q + r + normed);  // attention
  freed += q + lse;
  point(2 * d + r + normed);  // head norm
  freed += r + head_statistics;
  point(3 * d + r + qkv.backward);
  return bytes;
}

}  // namespace vixen
