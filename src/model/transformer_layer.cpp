#include "model/transformer_layer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "kernels/activation.hpp"

namespace vixen {
namespace {

enum Site : uint32_t { kAttentionSite, kOutSite, kActivationSite, kFeedForwardSite };

Dropout dropout_at(double p, uint32_t site, const PackedLayout& layout) {
  return {.p = layout.training ? p : 0.0,
          .seed = layout.seed,
          .step = layout.step,
          .site = site,
          .device_step = layout.device_step};
}

}  // namespace

TransformerLayer::TransformerLayer(ParameterStore& store, TransformerLayerOptions options,
                                   TransformerLayerParameters parameters)
    : store_(&store), options_(options), parameters_(std::move(parameters)) {
  VIXEN_CHECK(options_.heads > 0 && options_.width % options_.heads == 0, "{} heads of a width of {}", options_.heads,
              options_.width);
}

at::Tensor TransformerLayer::forward(const at::Tensor& x, const PackedLayout& layout, Saved* saved) const {
  const auto& p = parameters_;
  const uint32_t site = options_.first_site;
  const AttentionShape shape{.heads = options_.heads, .max_seqlen = layout.max_seqlen};
  const LoraDropout lora = layout.lora_dropout();
  const bool keep = saved != nullptr;
  Saved kept;
  const auto linear = [&](const AdaptedLinear& l, const at::Tensor& input, at::Tensor& u) {
    return adapted_linear(*store_, l, input, lora, keep ? &u : nullptr);
  };
  at::Tensor qkv = linear(p.qkv, x, kept.u_qkv);
  AttentionResult attention =
      packed_attention(qkv, layout.cu_seqlens, layout.sequence_keys, shape,
                       dropout_at(options_.attention_dropout, site + kAttentionSite, layout), *layout.groups);
  if (!keep) qkv.reset();
  NormResult norm1 = dropout_add_norm(linear(p.out, attention.context, kept.u_out), x, store_->value(p.norm1_weight),
                                      store_->value(p.norm1_bias), options_.norm_eps, layout.token_keys,
                                      dropout_at(options_.out_dropout, site + kOutSite, layout));
  if (!keep) {
    attention = {};
    norm1.sum.reset();
  }
  at::Tensor ff_pre = linear(p.ff1, norm1.y, kept.u_ff1);
  at::Tensor ff_act = vixen::gelu(ff_pre);
  if (!keep) ff_pre.reset();
  const Dropout activation = dropout_at(options_.activation_dropout, site + kActivationSite, layout);
  if (activation.active()) ff_act = apply_dropout(ff_act, layout.token_keys, activation);
  NormResult norm2 = dropout_add_norm(linear(p.ff2, ff_act, kept.u_ff2), norm1.y, store_->value(p.norm2_weight),
                                      store_->value(p.norm2_bias), options_.norm_eps, layout.token_keys,
                                      dropout_at(options_.hidden_dropout, site + kFeedForwardSite, layout));
  at::Tensor y = std::exchange(norm2.y, {});  // the next layer's input, which keeps it
  if (keep) {
    kept.input = x;
    kept.qkv = std::move(qkv);
    kept.ff_pre = std::move(ff_pre);
    kept.ff_act = std::move(ff_act);
    kept.attention = std::move(attention);
    kept.norm1 = std::move(norm1);
    kept.norm2 = std::move(norm2);
    *saved = std::move(kept);
  }
  return y;
}

TransformerLayer::Saved TransformerLayer::recompute(const at::Tensor& x, const PackedLayout& layout) const {
  Saved saved;
  forward(x, layout, &saved);
  return saved;
}

at::Tensor TransformerLayer::backward(const at::Tensor& grad_y, const PackedLayout& layout, Saved& saved,
                                      bool want_grad_x) const {
  const auto& p = parameters_;
  const uint32_t site = options_.first_site;
  const AttentionShape shape{.heads = options_.heads, .max_seqlen = layout.max_seqlen};
  const LoraDropout lora = layout.lora_dropout();

  NormGradient grad2 =
      dropout_add_norm_backward(grad_y, saved.norm2, store_->value(p.norm2_weight), layout.token_keys,
                                dropout_at(options_.hidden_dropout, site + kFeedForwardSite, layout),
                                store_->grad_or_scratch(p.norm2_weight), store_->grad_or_scratch(p.norm2_bias));
  saved.norm2 = {};
  at::Tensor grad_act = adapted_linear_backward(*store_, p.ff2, grad2.x, saved.ff_act, saved.u_ff2, lora, {});
  saved.ff_act.reset();
  saved.u_ff2.reset();
  const Dropout activation = dropout_at(options_.activation_dropout, site + kActivationSite, layout);
  if (activation.active()) grad_act = apply_dropout(grad_act, layout.token_keys, activation);
  at::Tensor grad_pre = vixen::gelu_backward(grad_act, saved.ff_pre);
  saved.ff_pre.reset();
  grad_act.reset();
  adapted_linear_backward(*store_, p.ff1, grad_pre, saved.norm1.y, saved.u_ff1, lora, grad2.residual);
  saved.u_ff1.reset();
  grad_pre.reset();

  NormGradient grad1 =
      dropout_add_norm_backward(grad2.residual, saved.norm1, store_->value(p.norm1_weight), layout.token_keys,
                                dropout_at(options_.out_dropout, site + kOutSite, layout),
                                store_->grad_or_scratch(p.norm1_weight), store_->grad_or_scratch(p.norm1_bias));
  saved.norm1 = {};
  grad2 = {};
  at::Tensor grad_context =
      adapted_linear_backward(*store_, p.out, grad1.x, saved.attention.context, saved.u_out, lora, {});
  saved.u_out.reset();
  const at::Tensor grad_qkv = packed_attention_backward(
      grad_context, saved.qkv, saved.attention, layout.cu_seqlens, layout.sequence_keys, shape,
      dropout_at(options_.attention_dropout, site + kAttentionSite, layout), *layout.groups);
  grad_context.reset();
  saved.qkv.reset();
  saved.attention = {};
  at::Tensor grad_x = adapted_linear_backward(*store_, p.qkv, grad_qkv, saved.input, saved.u_qkv, lora,
                                              std::move(grad1.residual), want_grad_x);
  saved.u_qkv.reset();
  saved.input.reset();
  return grad_x;
}

double TransformerLayer::attention_flops(int64_t positions, int64_t sum_squared_lengths) const {
  return vixen::attention_flops(positions, sum_squared_lengths, options_.width / options_.heads,
                                {.heads = options_.heads});
}

LayerBytes TransformerLayer::bytes(const BatchShape& shape, at::ScalarType dtype, const KernelMoments& moments) const {
  const auto& p = parameters_;
  LayerBytes bytes = TransformerLayer::bytes(options_, shape, dtype, moments);
  int64_t columns = 0;
  OperandBytes made;
  for (const AdaptedLinear* linear : {&p.qkv, &p.out, &p.ff1, &p.ff2}) {
    columns += kept_columns(*store_, *linear, dtype);
    const OperandBytes of_call = operand_bytes(*store_, *linear, dtype, shape.positions);
    made = {std::max(made.forward, of_call.forward), std::max(made.backward, of_call.backward)};
  }
  bytes.kept += static_cast<int64_t>(at::elementSize(dtype)) * shape.positions * columns;
  bytes.transient_forward += made.forward;
  bytes.transient_backward += made.backward;
  return bytes;
}

LayerBytes TransformerLayer::bytes(const TransformerLayerOptions& options, const BatchShape& shape,
                                   at::ScalarType dtype, const KernelMoments& moments) {
  const int64_t t = shape.positions, d = static_cast<int64_t>(at::elementSize(dtype)) * t * options.width;
  const int64_t f = static_cast<int64_t>(at::elementSize(dtype)) * t * options.feed_forward;
  const AttentionShape heads{.heads = options.heads, .max_seqlen = shape.longest};
  const int64_t head_dim = options.width / options.heads, squares = shape.sum_squared_lengths;
  const int64_t statistics = 2 * norm_statistics_bytes(t) + attention_statistics_bytes(t, heads);
  const bool drops_attention = options.attention_dropout > 0, drops_out = options.out_dropout > 0,
             drops_hidden = options.hidden_dropout > 0, drops_activation = options.activation_dropout > 0;
  const int64_t mask = drops_activation ? moments.dropout(t, options.feed_forward) : 0;
  const auto norm = [&](bool drops) { return moments.norm(t, options.width, drops); };
  const auto norm_backward = [&](bool drops) { return moments.norm_backward(t, options.width, drops); };

  LayerBytes bytes;
  bytes.kept = 8 * d + 2 * f + statistics;
  bytes.recomputed = d;
  // A layer that keeps nothing, with its input: behind attention (input, q | k | v, context), in the first norm
  // (input, context, product, sum, output), at the activation (input, a, two of F), in the second norm.
  bytes.transient_forward =
      statistics + std::max({5 * d + moments.attention(t, squares, head_dim, heads, drops_attention),
                             5 * d + norm(drops_out), 2 * d + 2 * f + mask, 5 * d + f + norm(drops_hidden)});
  // A layer that kept everything, less what has been freed by then: in the second norm and through W2 (gradients of y,
  // of the sum, of the activation), through the activation (two gradients, one activation and one sum gone), in the
  // first norm, and in attention (where both activations and the norms' sums are gone). Dropout parts a norm's two
  // gradients.
  const int64_t gradients = (drops_hidden ? 3 : 2) * d, of_out = (drops_out ? 3 : 2) * d;
  bytes.transient_backward = std::max(
      {gradients + norm_backward(drops_hidden), gradients + f - d, gradients + 2 * f - f - d + mask,
       gradients + of_out - d - (2 * f + d) + norm_backward(drops_out), gradients + 4 * d - (2 * f + 3 * d),
       of_out + 4 * d - (2 * f + 3 * d) + moments.attention_backward(t, squares, head_dim, heads, drops_attention)});
  return bytes;
}

LayerTraffic TransformerLayer::traffic(const BatchShape& shape, const KernelTraffic& kernels, bool training) const {
  const AttentionShape heads{.heads = options_.heads, .max_seqlen = shape.longest};
  const int64_t t = shape.positions, d = options_.width, f = options_.feed_forward, head_dim = d / options_.heads;
  const auto drops = [&](double p) { return training && p > 0; };
  const int64_t masked = drops(options_.activation_dropout) ? kernels.dropout(t, f) : 0;
  const auto norm = [&](double p) { return kernels.norm(t, d, /*residual=*/true, drops(p)); };
  const auto norm_backward = [&](double p) { return kernels.norm_backward(t, d, drops(p)); };

  LayerTraffic bytes;
  bytes.attention_on_cores = kernels.attention_on_cores(head_dim, heads, drops(options_.attention_dropout));
  bytes.forward = kernels.attention(t, shape.sum_squared_lengths, head_dim, heads, drops(options_.attention_dropout)) +
                  norm(options_.out_dropout) + kernels.gelu(t, f) + masked + norm(options_.hidden_dropout);
  bytes.backward = norm_backward(options_.hidden_dropout) + masked + kernels.gelu_backward(t, f) +
                   norm_backward(options_.out_dropout) +
                   kernels.attention_backward(t, shape.sequences, shape.sum_squared_lengths, head_dim, heads,
                                              drops(options_.attention_dropout));
  const auto& p = parameters_;
  for (const AdaptedLinear* linear : {&p.qkv, &p.out, &p.ff1, &p.ff2}) {
    const LinearTraffic of = linear_traffic(*store_, *linear, t, kernels, training);
    bytes.forward += of.forward;
    bytes.backward += of.backward;
  }
  bytes.again = bytes.forward;
  return bytes;
}

}  // namespace vixen
