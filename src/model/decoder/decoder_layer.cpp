#include "model/decoder/decoder_layer.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "base/check.hpp"
#include "kernels/head_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"

namespace vixen {
namespace {

constexpr Dropout kNoDropout;  // decoders have none, neither on attention probabilities nor behind their products

at::Tensor gradient_of(const ParameterStore& store, int parameter) {
  return store.trained(parameter) ? store.grad(parameter) : at::Tensor();
}

}  // namespace

DecoderLayer::DecoderLayer(ParameterStore& store, const DecoderConfig& config, DecoderLayerParameters parameters)
    : store_(&store), config_(config), parameters_(std::move(parameters)) {
  VIXEN_CHECK(config_.kv_heads > 0 && config_.heads % config_.kv_heads == 0, "{} query heads over {} key-value heads",
              config_.heads, config_.kv_heads);
  VIXEN_CHECK(config_.head_norm == (parameters_.q_norm >= 0), "the head norm has no weights or too many");
}

// What attention reads [T, (H + 2 Hkv) d]: the rotated projection. With a head norm it is a tensor of its own, without
// one qkv itself is rotated.
at::Tensor DecoderLayer::attention_input(const at::Tensor& qkv, const DecoderPass& pass, at::Tensor* head_rstd) const {
  at::Tensor rotated = qkv;
  if (config_.head_norm) {
    HeadNormResult norm = head_norm(qkv, store_->value(parameters_.q_norm), store_->value(parameters_.k_norm),
                                    config_.norm_eps, pass.attention);
    rotated = std::move(norm.qkv);
    if (head_rstd != nullptr) *head_rstd = std::move(norm.rstd);
  }
  apply_rope(rotated, pass.position_ids, pass.rope, pass.attention, /*inverse=*/false);
  return rotated;
}

at::Tensor DecoderLayer::run(const at::Tensor& x, const DecoderPass& pass, Saved* saved, bool want_y) const {
  const auto& p = parameters_;
  const PackedLayout& layout = pass.layout;
  const LoraDropout dropout = layout.lora_dropout();
  Saved kept;
  const auto u_of = [&](at::Tensor& u) { return saved != nullptr ? &u : nullptr; };

  RmsNormResult norm1 = add_rms_norm(x, {}, store_->value(p.norm1), config_.norm_eps);
  at::Tensor qkv = adapted_linear(*store_, p.qkv, norm1.y, dropout, u_of(kept.u_qkv));
  norm1.y.reset();
  at::Tensor rotated = attention_input(qkv, pass, saved != nullptr ? &kept.head_rstd : nullptr);
  if (saved == nullptr) qkv.reset();
  AttentionResult attention =
      packed_attention(rotated, layout.cu_seqlens, layout.sequence_keys, pass.attention, kNoDropout, *layout.groups);
  rotated.reset();

  at::Tensor block = adapted_linear(*store_, p.out, attention.context, dropout, u_of(kept.u_out));
  if (saved == nullptr) attention = {};
  RmsNormResult norm2 = add_rms_norm(block, x, store_->value(p.norm2), config_.norm_eps);
  block.reset();
  at::Tensor gate_up = adapted_linear(*store_, p.gate_up, norm2.y, dropout, u_of(kept.u_gate_up));
  norm2.y.reset();
  at::Tensor y;
  if (want_y) {
    at::Tensor activated = swiglu(gate_up);
    if (saved == nullptr) gate_up.reset();
    y = adapted_linear(*store_, p.down, activated, dropout, u_of(kept.u_down));
    activated.reset();
    y.add_(norm2.sum);
  }
  if (saved != nullptr) {
    kept.input = x;
    kept.rstd1 = norm1.rstd;
    kept.qkv = std::move(qkv);
    kept.attention = std::move(attention);
    kept.middle = norm2.sum;
    kept.rstd2 = norm2.rstd;
    kept.gate_up = std::move(gate_up);
    *saved = std::move(kept);
  }
  return y;
}

at::Tensor DecoderLayer::forward(const at::Tensor& x, const DecoderPass& pass, Saved* saved) const {
  return run(x, pass, saved, /*want_y=*/true);
}

DecoderLayer::Saved DecoderLayer::recompute(const at::Tensor& x, const DecoderPass& pass) const {
  Saved saved;  // u_down stays undefined: the backward makes it from the activation that it computes anyway
  run(x, pass, &saved, /*want_y=*/false);
  return saved;
}

at::Tensor DecoderLayer::backward(const at::Tensor& grad_y, const DecoderPass& pass, Saved& saved,
                                  bool want_grad_x) const {
  const auto& p = parameters_;
  const PackedLayout& layout = pass.layout;
  const LoraDropout dropout = layout.lora_dropout();
  // The gradient of a projection's input, from that of its output; what the forward kept of it is freed.
  const auto through = [&](const AdaptedLinear& linear, const at::Tensor& grad, const at::Tensor& input, at::Tensor& u,
                           bool want_grad_input) {
    const at::Tensor kept = std::exchange(u, {});
    return adapted_linear_backward(*store_, linear, grad, input, kept, dropout, {}, want_grad_input);
  };

  // The activation is made once more by the pass that takes its gradient, which the product with W down gives first.
  at::Tensor grad_gate_up;
  adapted_linear_backward(*store_, p.down, grad_y, std::exchange(saved.u_down, {}), dropout, [&](at::Tensor grad) {
    grad_gate_up = swiglu_backward_again(grad, saved.gate_up);
    saved.gate_up.reset();
    return grad;
  });
  const at::Tensor norm2_weight = store_->value(p.norm2);
  at::Tensor grad_norm2 =
      through(p.gate_up, grad_gate_up, rms_norm_again(saved.middle, saved.rstd2, norm2_weight), saved.u_gate_up, true);
  grad_gate_up.reset();
  at::Tensor grad_middle =
      add_rms_norm_backward(grad_norm2, grad_y, saved.middle, saved.rstd2, norm2_weight, gradient_of(*store_, p.norm2));
  grad_norm2.reset();
  saved.middle.reset();
  saved.rstd2.reset();

  at::Tensor grad_context = through(p.out, grad_middle, saved.attention.context, saved.u_out, true);
  at::Tensor grad_qkv;
  {
    const at::Tensor rotated = config_.head_norm ? attention_input(saved.qkv, pass, nullptr) : saved.qkv;
    grad_qkv = packed_attention_backward(grad_context, rotated, saved.attention, layout.cu_seqlens,
                                         layout.sequence_keys, pass.attention, kNoDropout, *layout.groups);
  }
  grad_context.reset();
  saved.attention = {};
  apply_rope(grad_qkv, pass.position_ids, pass.rope, pass.attention, /*inverse=*/true);
  if (config_.head_norm)
    grad_qkv =
        head_norm_backward(grad_qkv, saved.qkv, saved.head_rstd, store_->value(p.q_norm), store_->value(p.k_norm),
                           pass.attention, gradient_of(*store_, p.q_norm), gradient_of(*store_, p.k_norm));
  saved.qkv.reset();
  saved.head_rstd.reset();

  const at::Tensor norm1_weight = store_->value(p.norm1);
  const bool through_norm1 = want_grad_x || store_->trained(p.norm1);
  const at::Tensor grad_norm1 =
      through(p.qkv, grad_qkv, rms_norm_again(saved.input, saved.rstd1, norm1_weight), saved.u_qkv, through_norm1);
  grad_qkv.reset();
  at::Tensor grad_x;
  if (through_norm1)
    grad_x = add_rms_norm_backward(grad_norm1, grad_middle, saved.input, saved.rstd1, norm1_weight,
                                   gradient_of(*store_, p.norm1));
  saved = {};
  if (!want_grad_x) return {};
  return grad_x;
}

}  // namespace vixen
