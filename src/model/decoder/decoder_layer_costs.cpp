// What a decoder layer costs: FLOPs of attention, and bytes as decoder_layer.cpp allocates and frees them; what a
// kernel keeps, its header says.
//   T positions, D width, Q = H d and R = (H + 2 Hkv) d columns of heads, F feed-forward width
#include <algorithm>

#include "kernels/head_norm.hpp"
#include "model/decoder/decoder_layer.hpp"

namespace vixen {

double DecoderLayer::attention_flops(int64_t positions, int64_t sum_squared_lengths, bool causal) const {
  return vixen::attention_flops(positions, sum_squared_lengths, config_.head_dim,
                                {.heads = config_.heads, .kv_heads = config_.kv_heads, .causal = causal});
}

LayerBytes DecoderLayer::bytes(const BatchShape& shape, at::ScalarType dtype, const KernelMoments& moments) const {
  const AttentionShape heads{.heads = config_.heads, .max_seqlen = shape.longest, .kv_heads = config_.kv_heads};
  const auto element = static_cast<int64_t>(at::elementSize(dtype));
  const int64_t t = shape.positions, width = config_.width, head_dim = config_.head_dim;
  const int64_t d = element * t * config_.width, f = element * t * config_.feed_forward;
  const int64_t q = element * t * config_.heads * config_.head_dim, r = element * t * config_.qkv_rows();
  const int64_t normed = config_.head_norm ? r : 0;  // the second q | k | v that a head norm makes
  const int64_t head_statistics = config_.head_norm ? head_norm_statistics_bytes(t, heads) : 0;
  const int64_t lse = attention_statistics_bytes(t, heads), norm_statistics = 2 * rms_norm_statistics_bytes(t);
  const auto& p = parameters_;
  const auto bytes_of = [&](const AdaptedLinear& linear) { return linear_bytes(*store_, linear, dtype, t, moments); };
  const LinearBytes qkv = bytes_of(p.qkv), out = bytes_of(p.out), gate_up = bytes_of(p.gate_up),
                    down = bytes_of(p.down);

  LayerBytes bytes;
  bytes.recomputed = d;
  bytes.kept = 2 * d + r + q + 2 * f + lse + norm_statistics + head_statistics + qkv.kept_u + out.kept_u +
               gate_up.kept_u + down.kept_u;

  // A layer that keeps nothing (its input is counted), at each point where one tensor more is there, with what its
  // kernel holds besides.
  const int64_t rope = moments.rope(t, head_dim, heads), rms = moments.rms_norm(t, width);
  const int64_t rms_again = moments.rms_norm_again(t, width), rms_backward = moments.rms_norm_backward(t, width);
  const int64_t head = config_.head_norm ? moments.head_norm(t, head_dim, heads) : 0;
  const auto attention = moments.attention(t, shape.sum_squared_lengths, head_dim, heads, /*drops=*/false);
  bytes.transient_forward =
      norm_statistics + std::max({2 * d + rms,                                              // first norm
                                  2 * d + r + qkv.forward,                                  // first projection
                                  d + r + normed + head_statistics + std::max(head, rope),  // head norm, rotation
                                  d + r + q + lse + attention,                              // attention
                                  2 * d + q + lse + out.forward,                            // output projection
                                  4 * d + rms,                                              // second norm
                                  3 * d + 2 * f + gate_up.forward,                          // gate and up
                                  2 * d + 3 * f + moments.swiglu(t, config_.feed_forward),  // activation
                                  3 * d + f + down.forward});                               // down
  // A layer that kept everything: what comes on top of that, less what has been freed of it by then. The gradient of
  // its output lives throughout.
  int64_t freed = 0;
  bytes.transient_backward = d + down.backward;
  const auto point = [&](int64_t live) { bytes.transient_backward = std::max(bytes.transient_backward, live - freed); };
  point(d + 3 * f + down.low_gradient + moments.swiglu_backward(t, config_.feed_forward));  // activation, in place
  freed += 2 * f;
  point(d + 3 * f + down.low_gradient + down.accumulating);
  freed += down.kept_u;
  point(2 * d + 2 * f + std::max(gate_up.backward, rms_again));
  freed += gate_up.kept_u;
  point(3 * d + rms_backward);  // second norm
  freed += d;
  point(2 * d + out.backward);
  freed += out.kept_u;
  if (config_.head_norm) point(2 * d + q + r + head_statistics + std::max(head, rope));  // rotated once more
  point(2 * d + q + r + normed +
        moments.attention_backward(t, shape.sum_squared_lengths, head_dim, heads, /*drops=*/false));
  freed += q + lse;
  point(2 * d + r + rope);
  if (config_.head_norm) point(2 * d + r + normed + moments.head_norm_backward(t, head_dim, heads));
  freed += r + head_statistics;
  point(3 * d + r + std::max(qkv.backward, rms_again));
  point(4 * d + rms_backward);  // first norm
  return bytes;
}

LayerTraffic DecoderLayer::traffic(const BatchShape& shape, const KernelTraffic& kernels, bool training) const {
  const AttentionShape heads{.heads = config_.heads, .max_seqlen = shape.longest, .kv_heads = config_.kv_heads};
  const int64_t t = shape.positions, d = config_.width, f = config_.feed_forward, head_dim = config_.head_dim;
  const int64_t rope = kernels.rope(t, head_dim, heads);
  const int64_t turned = rope + (config_.head_norm ? kernels.head_norm(t, head_dim, heads) : 0);
  const auto& p = parameters_;
  const auto linear = [&](const AdaptedLinear& of) { return linear_traffic(*store_, of, t, kernels, training); };
  const LinearTraffic qkv = linear(p.qkv), out = linear(p.out), gate_up = linear(p.gate_up), down = linear(p.down);

  LayerTraffic bytes;
  bytes.attention_on_cores = kernels.attention_on_cores(head_dim, heads, /*drops=*/false);
  bytes.again = kernels.rms_norm(t, d, /*residual=*/false) + qkv.forward + turned +
                kernels.attention(t, shape.sum_squared_lengths, head_dim, heads, /*drops=*/false) + out.forward +
                kernels.rms_norm(t, d, /*residual=*/true) + gate_up.forward;
  bytes.forward = bytes.again + kernels.swiglu(t, f) + down.forward + kernels.passes(t * d, 3);  // the residual
  bytes.backward = down.backward + kernels.swiglu_backward_again(t, f) + gate_up.backward + out.backward +
                   2 * (kernels.rms_norm_again(t, d) + kernels.rms_norm_backward(t, d)) +
                   kernels.attention_backward(t, shape.sequences, shape.sum_squared_lengths, head_dim, heads,
                                              /*drops=*/false) +
                   rope + qkv.backward;
  if (config_.head_norm) bytes.backward += turned + kernels.head_norm_backward(t, head_dim, heads);
  return bytes;
}

}  // namespace vixen
