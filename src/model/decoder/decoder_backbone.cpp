#include "model/decoder/decoder_backbone.hpp"

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

// The embeddings: rows of the table. Behind the layers: the last norm and the pooling.
class DecoderBackbone::Pass final : public PassOver<DecoderLayer, DecoderPass> {
 public:
  Pass(const DecoderBackbone& backbone, const PackedBatch& batch, const PassContext& context)
      : PassOver(backbone.layers_, backbone.shared_of(batch, context)), backbone_(&backbone) {}

  at::Tensor embed(const PackedBatch& batch, const at::Tensor& images, bool) override {
    const ParameterStore& store = *backbone_->store_;
    return embed_tokens(batch.tokens, store.value(backbone_->word_), images, batch.image_positions,
                        store.compute_dtype());
  }

  // The last positions alone go through the norm when no other is looked at.
  at::Tensor finish(at::Tensor x, const PackedBatch& batch, bool keep) override {
    const bool last = backbone_->pools_last();
    if (last) x = last_pool(x, batch.cu_seqlens);
    RmsNormResult norm =
        add_rms_norm(x, {}, backbone_->store_->value(backbone_->final_norm_), backbone_->config_.norm_eps);
    x.reset();
    const at::Tensor h = std::exchange(norm.y, {});
    if (keep) norm_ = std::move(norm);
    return last ? h : mean_pool(h, batch.cu_seqlens);
  }

  at::Tensor finish_backward(const at::Tensor& grad_h, const PackedBatch& batch) override {
    ParameterStore& store = *backbone_->store_;
    const int weight = backbone_->final_norm_;
    const bool last = backbone_->pools_last();
    const auto dtype = store.compute_dtype();
    at::Tensor grad = last ? grad_h : mean_pool_backward(grad_h, batch.cu_seqlens, batch.n_positions(), dtype);
    grad = add_rms_norm_backward(grad, {}, norm_.sum, norm_.rstd, store.value(weight),
                                 store.trained(weight) ? store.grad(weight) : at::Tensor());
    norm_ = {};
    return last ? last_pool_backward(grad, batch.cu_seqlens, batch.n_positions(), dtype) : grad;
  }

  at::Tensor embed_backward(const at::Tensor& grad, const PackedBatch& batch) override {
    ParameterStore& store = *backbone_->store_;
    const int word = backbone_->word_;
    return embed_tokens_backward(grad, batch.tokens, batch.image_positions,
                                 store.trained(word) ? store.grad(word) : at::Tensor());
  }

 private:
  const DecoderBackbone* backbone_;
  RmsNormResult norm_;  // of all positions (mean) or the last ones; y is not kept
};

DecoderBackbone::DecoderBackbone(const EncoderOptions& options, const DecoderConfig& config, ParameterStore& store)
    : options_(options), config_(config), store_(&store) {
  traits_ = {.width = config.width,
             .layers = config.layers,
             .vocabulary = config.vocabulary,
             .max_positions = std::min(config.positions, kLongestSequence),
             .is_decoder = true,
             .prompt = kDecoderPrompt};
  position_limit_ = fmt::format("{}/config.json: max_position_embeddings is {}", options.model.path, config.positions);
  if (config.positions > kLongestSequence)
    position_limit_ =
        fmt::format("{}: attention takes sequences of {} positions", options.model.path, kLongestSequence);
  if (config.sliding_window > 0 && config.sliding_window < traits_.max_positions) {
    traits_.max_positions = config.sliding_window;
    position_limit_ = fmt::format("{}/config.json: sliding_window is {}", options.model.path, config.sliding_window);
  }

  weights_.parameters = backbone_parameters(config);
  weights_.prefixes = {std::string(config.variant->prefix), ""};
  weights_.first = register_backbone(weights_.parameters, options.frozen_backbone(), store);
  int next = weights_.first;
  word_ = next++;
  ranges_.embeddings = {word_, next};
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
    ranges_.layers.push_back({begin, next});
  }
  final_norm_ = next++;
  ranges_.final_pieces = {final_norm_, next};
  VIXEN_CHECK(next == store.count(), "{} parameters registered, {} numbered", store.count(), next);
  for (size_t i = 0; i < layers.size(); ++i) {
    const int begin = store.count();
    add_adapters(static_cast<int64_t>(i), layers[i]);
    ranges_.adapters.push_back({begin, store.count()});
    layers_.emplace_back(store, config_, std::move(layers[i]));
  }
}

void DecoderBackbone::add_adapters(int64_t layer, DecoderLayerParameters& parameters) {
  const DecoderLayerModules modules = layer_modules(config_, layer);
  const int64_t d = config_.width, f = config_.feed_forward;
  const int64_t q = config_.heads * config_.head_dim, kv = config_.kv_heads * config_.head_dim;
  uint32_t site = kSitesPerLayer * static_cast<uint32_t>(layer);
  const auto add = [&](const std::string& name, const std::vector<LoraSlot>& slots, int64_t inputs,
                       AdaptedLinear& linear) {
    add_lora(options_.lora, name, slots, inputs, site++, options_.trainable, *store_, linear);
  };
  add(modules.qkv,
      {{LoraModule::kQuery, 0, q, modules.query},
       {LoraModule::kKey, q, kv, modules.key},
       {LoraModule::kValue, q + kv, kv, modules.value}},
      d, parameters.qkv);
  add(modules.out, {{LoraModule::kOut, 0, d, modules.out}}, q, parameters.out);
  add(modules.gate_up, {{LoraModule::kGate, 0, f, modules.gate}, {LoraModule::kUp, f, f, modules.up}}, d,
      parameters.gate_up);
  add(modules.down, {{LoraModule::kDown, 0, d, modules.down}}, f, parameters.down);
}

std::vector<const AdaptedLinear*> DecoderBackbone::linears() const {
  std::vector<const AdaptedLinear*> all;
  for (const auto& layer : layers_) {
    const auto& p = layer.parameters();
    all.insert(all.end(), {&p.qkv, &p.out, &p.gate_up, &p.down});
  }
  return all;
}

void DecoderBackbone::make_constants() {
  rope_ = rope_table(config_, traits_.max_positions).to(store_->flat_values().device());
}

DecoderPass DecoderBackbone::shared_of(const PackedBatch& batch, const PassContext& context) const {
  VIXEN_CHECK(rope_.defined(), "a forward pass before the weights are loaded");
  DecoderPass shared;
  shared.layout = packed_layout(batch.cu_seqlens, batch.offsets_on_host(), batch.sequence_keys, batch.max_seqlen,
                                context, has_dropout());
  shared.position_ids = batch.position_ids;
  shared.rope = rope_;
  shared.attention = {
      .heads = config_.heads, .max_seqlen = batch.max_seqlen, .kv_heads = config_.kv_heads, .causal = is_causal()};
  return shared;
}

std::unique_ptr<BackbonePass> DecoderBackbone::begin(const PackedBatch& batch, const PassContext& context) const {
  return std::make_unique<Pass>(*this, batch, context);
}

double DecoderBackbone::attention_flops(int64_t positions, int64_t sum_squared_lengths) const {
  return layers_.front().attention_flops(positions, sum_squared_lengths, is_causal());
}

LayerBytes DecoderBackbone::layer_bytes(const BatchShape& shape, const KernelMoments& moments) const {
  return layers_.front().bytes(shape, compute_dtype(options_.model), moments);
}

int64_t DecoderBackbone::end_bytes(const BatchShape& shape) const {
  constexpr int64_t kFloatBytes = sizeof(float);
  const auto element = static_cast<int64_t>(at::elementSize(compute_dtype(options_.model)));
  const int64_t t = shape.positions, n = shape.sequences, d = config_.width;
  // The last norm's input and statistics, h, the keys of dropout.
  const int64_t norm = pools_last() ? kFloatBytes * n * d + rms_norm_statistics_bytes(n)
                                    : element * t * d + rms_norm_statistics_bytes(t);
  return norm + kFloatBytes * n * d + (has_dropout() ? token_key_bytes(t) : 0);
}

LayerTraffic DecoderBackbone::layer_traffic(const BatchShape& shape, const KernelTraffic& traffic,
                                            bool training) const {
  return layers_.front().traffic(shape, traffic, training);
}

LayerTraffic DecoderBackbone::end_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool) const {
  const int64_t t = shape.positions, n = shape.sequences, d = config_.width;
  const bool trained = store_->trained(word_);
  LayerTraffic bytes;
  bytes.forward = traffic.embed_tokens(t, d, trained ? 4 : 2);  // frozen tables are read as they lie in the file
  bytes.backward = trained ? traffic.segment_sums(t, d) : 0;
  if (pools_last()) {
    bytes.forward += traffic.rms_norm(n, d, /*residual=*/false);
    bytes.backward += traffic.rms_norm_backward(n, d) + traffic.passes(t * d, 1);  // zeros elsewhere
  } else {
    bytes.forward += traffic.rms_norm(t, d, /*residual=*/false) + traffic.mean_pool(t, n, d);
    bytes.backward += traffic.mean_pool_backward(t, n, d) + traffic.rms_norm_backward(t, d);
  }
  return bytes;
}

std::string DecoderBackbone::config_text(const std::string& dtype) const {
  return saved_config_text(options_.model, config_, dtype);
}

}  // namespace vixen
