#include "model/decoder/decoder_encoder.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "kernels/embedding.hpp"
#include "kernels/pooling.hpp"
#include "kernels/rms_norm.hpp"

namespace vixen {
namespace {

// Dropout sites of the adapters: four linear layers in each layer.
constexpr uint32_t kSitesPerLayer = 4;

// Sequences that packed attention takes at most (kernels/packed_attention.hpp).
constexpr int64_t kLongestSequence = 65536;

}  // namespace

// What a forward pass keeps.
struct DecoderEncoder::Activations final : Encoder::Saved {
  DecoderPass pass;
  ImageAdapter::Saved images;
  std::vector<DecoderLayer::Saved> layers;
  std::vector<at::Tensor> inputs;  // of the layers that are computed again
  RmsNormResult norm;              // of all positions (mean) or the last ones; y is not kept
};

DecoderEncoder::DecoderEncoder(const EncoderOptions& options, const DecoderConfig& config, ParameterStore& store)
    : BackboneEncoder(options, store), config_(config) {
  first_ = register_backbone(backbone(), frozen(), store);
  int next = first_;
  word_ = next++;
  std::vector<DecoderLayerParameters> layers(static_cast<size_t>(config_.layers));
  for (DecoderLayerParameters& p : layers) {
    const int begin = next;
    const auto linear = [&](AdaptedLinear& target, bool bias) {
      target.weight = next++;
      if (bias) target.bias = next++;
    };
    p.norm1 = next++;
    linear(p.qkv, config_.qkv_bias);
    if (config_.head_norm) {
      p.q_norm = next++;
      p.k_norm = next++;
    }
    linear(p.out, config_.out_bias);
    p.norm2 = next++;
    linear(p.gate_up, config_.mlp_bias);
    linear(p.down, config_.mlp_bias);
    trained_.push_back(frozen() ? Range{next, next} : Range{begin, next});
  }
  final_norm_ = next++;
  VIXEN_CHECK(next == store.count(), "{} parameters registered, {} numbered", store.count(), next);
  for (size_t i = 0; i < layers.size(); ++i) {
    if (options_.lora.rank > 0) {
      const int begin = store.count();
      add_adapters(static_cast<int64_t>(i), layers[i]);
      if (options_.trainable) trained_[i] = {begin, store.count()};
    }
    layers_.emplace_back(store, config_, std::move(layers[i]));
  }
  add_image_adapter();
}

void DecoderEncoder::add_adapters(int64_t layer, DecoderLayerParameters& parameters) {
  const std::string attention = fmt::format("layers.{}.self_attn.", layer), mlp = fmt::format("layers.{}.mlp.", layer);
  const int64_t d = config_.width, f = config_.feed_forward;
  const int64_t q = config_.heads * config_.head_dim, kv = config_.kv_heads * config_.head_dim;
  uint32_t site = kSitesPerLayer * static_cast<uint32_t>(layer);
  const auto add = [&](const std::string& name, const std::vector<LoraSlot>& slots, int64_t inputs,
                       AdaptedLinear& linear) {
    add_lora(options_.lora, name, slots, inputs, site++, options_.trainable, *store_, linear);
  };
  add(attention + "qkv_proj",
      {{LoraModule::kQuery, 0, q, attention + "q_proj"},
       {LoraModule::kKey, q, kv, attention + "k_proj"},
       {LoraModule::kValue, q + kv, kv, attention + "v_proj"}},
      d, parameters.qkv);
  add(attention + "o_proj", {{LoraModule::kOut, 0, d, attention + "o_proj"}}, q, parameters.out);
  add(mlp + "gate_up_proj", {{LoraModule::kGate, 0, f, mlp + "gate_proj"}, {LoraModule::kUp, f, f, mlp + "up_proj"}}, d,
      parameters.gate_up);
  add(mlp + "down_proj", {{LoraModule::kDown, 0, d, mlp + "down_proj"}}, f, parameters.down);
}

std::vector<const AdaptedLinear*> DecoderEncoder::linears() const {
  std::vector<const AdaptedLinear*> all;
  for (const auto& layer : layers_) {
    const auto& p = layer.parameters();
    all.insert(all.end(), {&p.qkv, &p.out, &p.gate_up, &p.down});
  }
  return all;
}

void DecoderEncoder::load_weights(uint64_t seed) {
  BackboneEncoder::load_weights(seed);
  rope_ = rope_table(config_, max_positions()).to(store_->flat_values().device());
}

int64_t DecoderEncoder::max_positions() const {
  const int64_t positions = std::min(config_.positions, kLongestSequence);
  return config_.sliding_window > 0 ? std::min(positions, config_.sliding_window) : positions;
}

void DecoderEncoder::check(const PackedBatch& batch) const {
  if (batch.max_seqlen > max_positions()) {
    const bool window = config_.sliding_window > 0 && batch.max_seqlen > config_.sliding_window;
    fail_user("{}/config.json: {} is {}, expected at least the {} positions of the longest sequence",
              options_.model.path, window ? "sliding_window" : "max_position_embeddings",
              window ? config_.sliding_window : config_.positions, batch.max_seqlen);
  }
  check_images(batch);
  VIXEN_CHECK(batch.n_sequences() == 0 || rope_.defined(), "a forward pass before load_weights()");
}

DecoderPass DecoderEncoder::pass_of(const PackedBatch& batch, const PassContext& context) const {
  DecoderPass pass;
  pass.layout = packed_layout(batch.cu_seqlens, batch.sequence_keys, batch.max_seqlen, context,
                              options_.lora.rank > 0 && options_.lora.dropout > 0);
  pass.position_ids = batch.position_ids;
  pass.rope = rope_;
  pass.attention = {.heads = config_.heads,
                    .max_seqlen = batch.max_seqlen,
                    .kv_heads = config_.kv_heads,
                    .causal = options_.model.mask != Mask::kBidirectional};
  return pass;
}

at::Tensor DecoderEncoder::forward(const PackedBatch& batch, const PassContext& context,
                                   std::unique_ptr<Saved>* saved) {
  check(batch);
  std::unique_ptr<Activations> kept;
  if (saved != nullptr) kept = std::make_unique<Activations>();
  if (batch.n_sequences() == 0) {  // a rank without rows
    if (kept) *saved = std::move(kept);
    return at::empty({0, config_.width}, batch.tokens.options().dtype(at::kFloat));
  }
  const DecoderPass pass = pass_of(batch, context);
  at::Tensor x;
  {
    at::Tensor images;
    if (batch.n_images() > 0) images = images_->forward(batch.image_embeddings, kept ? &kept->images : nullptr);
    x = embed_tokens(batch.tokens, store_->value(word_), images, batch.image_positions, store_->compute_dtype());
  }
  if (kept) {
    kept->pass = pass;
    kept->layers.resize(layers_.size());
    kept->inputs.resize(layers_.size());
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    const bool recompute = static_cast<int64_t>(i) < recompute_layers_;
    if (kept && recompute) kept->inputs[i] = x;
    x = layers_[i].forward(x, pass, kept && !recompute ? &kept->layers[i] : nullptr);
  }
  // The last positions alone go through the norm when no other is looked at.
  const bool last = options_.model.pooling == Pooling::kLastToken;
  if (last) x = last_pool(x, batch.cu_seqlens);
  RmsNormResult norm = add_rms_norm(x, {}, store_->value(final_norm_), config_.norm_eps);
  x.reset();
  at::Tensor h = std::exchange(norm.y, {});
  if (kept) {
    kept->norm = std::move(norm);
    *saved = std::move(kept);
  }
  return last ? h : mean_pool(h, batch.cu_seqlens);
}

void DecoderEncoder::backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context,
                              Saved& saved, const std::function<void(int, int)>& on_ready) {
  auto& kept = dynamic_cast<Activations&>(saved);
  const bool empty = batch.n_sequences() == 0;
  VIXEN_CHECK(empty || (kept.layers.size() == layers_.size() && kept.norm.sum.defined() &&
                        kept.pass.layout.step == context.step && kept.pass.layout.training == context.training),
              "the activations are of another pass, or used up");
  // Ranks without rows announce the same ranges in the same order: each is a collective.
  const auto ready = [&](Range range) {
    if (on_ready && range.first < range.last) on_ready(range.first, range.last);
  };
  const auto ready_if_trained = [&](int parameter) {
    if (store_->trained(parameter)) ready({parameter, parameter + 1});
  };

  at::Tensor grad;
  if (!empty) {
    const bool last = options_.model.pooling == Pooling::kLastToken;
    const auto dtype = store_->compute_dtype();
    grad = last ? grad_h : mean_pool_backward(grad_h, batch.cu_seqlens, batch.n_positions(), dtype);
    grad = add_rms_norm_backward(grad, {}, kept.norm.sum, kept.norm.rstd, store_->value(final_norm_),
                                 store_->trained(final_norm_) ? store_->grad(final_norm_) : at::Tensor());
    kept.norm = {};
    if (last) grad = last_pool_backward(grad, batch.cu_seqlens, batch.n_positions(), dtype);
  }
  ready_if_trained(final_norm_);
  const bool to_embeddings = !empty && wants_embedding_gradient(batch, word_);
  for (size_t i = layers_.size(); i-- > 0;) {
    if (!empty) {
      if (kept.inputs[i].defined()) kept.layers[i] = layers_[i].recompute(std::exchange(kept.inputs[i], {}), kept.pass);
      grad = layers_[i].backward(grad, kept.pass, kept.layers[i], i > 0 || to_embeddings);
    }
    ready(trained_[i]);
  }
  if (to_embeddings) {
    const at::Tensor grad_images = embed_tokens_backward(grad, batch.tokens, batch.image_positions,
                                                         store_->trained(word_) ? store_->grad(word_) : at::Tensor());
    if (batch.n_images() > 0) images_->backward(grad_images, batch.image_embeddings, kept.images);
  }
  ready_if_trained(word_);
  if (images_ != nullptr && options_.trainable) ready({images_->first_parameter(), images_->last_parameter()});
}

std::string DecoderEncoder::config_text(const std::string& dtype) const {
  return saved_config_text(options_.model, config_, dtype);
}

}  // namespace vixen
