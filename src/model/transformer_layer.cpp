#include "model/transformer_layer.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "kernels/activation.hpp"
#include "model/linear.hpp"

namespace vixen {
namespace {

enum Site : uint32_t { kAttentionSite, kOutSite, kActivationSite, kFeedForwardSite };

Dropout dropout_at(double p, uint32_t site, const PackedLayout& layout) {
  return {.p = layout.training ? p : 0.0, .seed = layout.seed, .step = layout.step, .site = site};
}

}  // namespace

TransformerLayer::TransformerLayer(ParameterStore& store, TransformerLayerOptions options,
                                   TransformerLayerParameters parameters)
    : store_(&store), options_(options), parameters_(parameters) {
  VIXEN_CHECK(options_.heads > 0 && options_.width % options_.heads == 0, "{} heads of a width of {}", options_.heads,
              options_.width);
}

at::Tensor TransformerLayer::forward(const at::Tensor& x, const PackedLayout& layout, Saved* saved) const {
  const auto& p = parameters_;
  const uint32_t site = options_.first_site;
  const AttentionShape shape{.heads = options_.heads, .max_seqlen = layout.max_seqlen};
  at::Tensor qkv = linear(*store_, x, p.qkv_weight, p.qkv_bias);
  AttentionResult attention = packed_attention(qkv, layout.cu_seqlens, layout.sequence_keys, shape,
                                               dropout_at(options_.attention_dropout, site + kAttentionSite, layout));
  if (saved == nullptr) qkv.reset();
  NormResult norm1 = dropout_add_norm(linear(*store_, attention.context, p.out_weight, p.out_bias), x,
                                      store_->value(p.norm1_weight), store_->value(p.norm1_bias), options_.norm_eps,
                                      layout.token_keys, dropout_at(options_.out_dropout, site + kOutSite, layout));
  if (saved == nullptr) {
    attention = {};
    norm1.sum.reset();
  }
  at::Tensor ff_pre = linear(*store_, norm1.y, p.ff1_weight, p.ff1_bias);
  at::Tensor ff_act = vixen::gelu(ff_pre);
  if (saved == nullptr) ff_pre.reset();
  const Dropout activation = dropout_at(options_.activation_dropout, site + kActivationSite, layout);
  if (activation.active()) ff_act = apply_dropout(ff_act, layout.token_keys, activation);
  NormResult norm2 =
      dropout_add_norm(linear(*store_, ff_act, p.ff2_weight, p.ff2_bias), norm1.y, store_->value(p.norm2_weight),
                       store_->value(p.norm2_bias), options_.norm_eps, layout.token_keys,
                       dropout_at(options_.hidden_dropout, site + kFeedForwardSite, layout));
  at::Tensor y = norm2.y;
  if (saved != nullptr) {
    norm2.y.reset();  // the next layer's input, which keeps it
    *saved = {.input = x,
              .qkv = qkv,
              .ff_pre = ff_pre,
              .ff_act = ff_act,
              .attention = attention,
              .norm1 = norm1,
              .norm2 = norm2};
  }
  return y;
}

at::Tensor TransformerLayer::backward(const at::Tensor& grad_y, const PackedLayout& layout, Saved& saved) const {
  const auto& p = parameters_;
  const uint32_t site = options_.first_site;
  const AttentionShape shape{.heads = options_.heads, .max_seqlen = layout.max_seqlen};

  NormGradient grad2 = dropout_add_norm_backward(grad_y, saved.norm2, store_->value(p.norm2_weight), layout.token_keys,
                                                 dropout_at(options_.hidden_dropout, site + kFeedForwardSite, layout),
                                                 store_->grad(p.norm2_weight), store_->grad(p.norm2_bias));
  saved.norm2 = {};
  at::Tensor grad_act = linear_backward(*store_, grad2.x, saved.ff_act, p.ff2_weight, p.ff2_bias);
  saved.ff_act.reset();
  const Dropout activation = dropout_at(options_.activation_dropout, site + kActivationSite, layout);
  if (activation.active()) grad_act = apply_dropout(grad_act, layout.token_keys, activation);
  const at::Tensor grad_pre = vixen::gelu_backward(grad_act, saved.ff_pre);
  saved.ff_pre.reset();
  grad_act.reset();
  linear_backward_into(*store_, grad_pre, saved.norm1.y, p.ff1_weight, p.ff1_bias, grad2.residual);

  NormGradient grad1 =
      dropout_add_norm_backward(grad2.residual, saved.norm1, store_->value(p.norm1_weight), layout.token_keys,
                                dropout_at(options_.out_dropout, site + kOutSite, layout), store_->grad(p.norm1_weight),
                                store_->grad(p.norm1_bias));
  saved.norm1 = {};
  grad2 = {};
  const at::Tensor grad_context = linear_backward(*store_, grad1.x, saved.attention.context, p.out_weight, p.out_bias);
  const at::Tensor grad_qkv =
      packed_attention_backward(grad_context, saved.qkv, saved.attention, layout.cu_seqlens, layout.sequence_keys,
                                shape, dropout_at(options_.attention_dropout, site + kAttentionSite, layout));
  saved.qkv.reset();
  saved.attention = {};
  linear_backward_into(*store_, grad_qkv, saved.input, p.qkv_weight, p.qkv_bias, grad1.residual);
  saved.input.reset();
  return grad1.residual;
}

}  // namespace vixen
