// What a pass of a BERT costs: FLOPs, and bytes of activations as transformer_layer.cpp allocates and frees them.
//   T positions, D width, F feed-forward width, U columns of x A^T
#include <algorithm>

#include "model/bert/bert_encoder.hpp"

namespace vixen {

double BertEncoder::forward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  const double d = static_cast<double>(config_.width), f = static_cast<double>(config_.feed_forward);
  double adapters = 0;
  for (const AdaptedLinear* linear : linears()) adapters += static_cast<double>(lora_products(*store_, *linear));
  const double weights = static_cast<double>(config_.layers) * (4 * d * d + 2 * d * f);
  const double attention = static_cast<double>(config_.layers) * 2 * 2 * d * static_cast<double>(sum_squared_lengths);
  return 2 * (weights + adapters) * static_cast<double>(positions) + attention;
}

double BertEncoder::backward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  const double forward = forward_flops(positions, sum_squared_lengths);
  if (store_->trained(word_)) return 2 * forward;  // gradients of inputs and weights
  // A frozen base: no gradients of its weights, and without pictures none of the first layer's input.
  const double d = static_cast<double>(config_.width), f = static_cast<double>(config_.feed_forward);
  double weights = static_cast<double>(config_.layers) * (4 * d * d + 2 * d * f);
  if (images_ == nullptr) weights += 3 * d * d;
  return 2 * forward - 2 * weights * static_cast<double>(positions);
}

Encoder::ActivationBytes BertEncoder::activation_bytes(const BatchShape& shape) const {
  constexpr int64_t kFloatBytes = 4, kKeyBytes = 12;
  const auto dtype = options_.model.compute == Compute::kFloat32 ? at::kFloat : at::kBFloat16;
  const auto element = static_cast<int64_t>(at::elementSize(dtype));
  const int64_t t = shape.positions, d = config_.width, f = config_.feed_forward;
  int64_t columns = 0, merged = 0;
  if (!layers_.empty()) {
    const auto& p = layers_.front().parameters();
    for (const AdaptedLinear* linear : {&p.qkv, &p.out, &p.ff1, &p.ff2}) {
      columns += kept_columns(*store_, *linear, dtype);
      merged = std::max(merged, merged_bytes(*store_, *linear, dtype));
    }
  }
  const int64_t statistics = kFloatBytes * t * (4 + config_.heads);  // of both norms; attention's log-sum-exp
  const int64_t doubled = config_.hidden_dropout > 0 ? 1 : 0;        // dropout parts a norm's two gradients

  ActivationBytes bytes;
  bytes.kept_a_layer = element * t * (8 * d + 2 * f + columns) + statistics;
  bytes.recomputed_a_layer = element * t * d;
  bytes.ends = kFloatBytes * shape.sequences * d + kKeyBytes * t;
  const bool embeddings = store_->trained(word_) || (shape.images > 0 && options_.trainable);
  if (embeddings) bytes.ends += t * (element * d + 2 * kFloatBytes);
  if (images_ != nullptr) bytes.ends += element * shape.images * images_->hidden_width();

  // A layer that keeps nothing, with its input: behind attention (input, q | k | v, context), in the first norm
  // (input, context, product, sum, output), at the activation (input, a, two of F), in the second norm.
  bytes.transient_forward = element * t * std::max({5 * d, 2 * d + 2 * f, 5 * d + f}) + statistics + merged;
  // A layer that kept everything, less what has been freed by then: through W2 (gradients of y, of the sum, of the
  // activation), through the activation (two gradients, one activation and one sum gone), and in attention (where both
  // activations and the norms' sums are gone).
  const int64_t through_w2 = (2 + doubled) * d + f - d;
  const int64_t through_activation = (2 + doubled) * d + 2 * f - f - d;
  const int64_t in_attention = (2 + doubled) * d + 4 * d - (2 * f + 3 * d);
  bytes.transient_backward =
      element * t * std::max({through_w2, through_activation, in_attention, (2 + doubled) * d}) + merged;
  return bytes;
}

}  // namespace vixen
