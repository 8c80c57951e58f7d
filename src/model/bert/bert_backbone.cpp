#include "model/bert/bert_backbone.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "base/check.hpp"
#include "kernels/embedding.hpp"
#include "kernels/norm.hpp"
#include "kernels/pooling.hpp"

namespace vixen {
namespace {

// Dropout sites: the embeddings', then four a layer; the adapters' four a layer far behind them.
constexpr uint32_t kEmbeddingSite = 0;
constexpr uint32_t kFirstLayerSite = 1;
constexpr uint32_t kSitesPerLayer = 4;
constexpr uint32_t kFirstAdapterSite = 30000;

// Rows of each sequence's first token, [CLS]: behind the pictures, when those come first. int64 [n].
at::Tensor first_tokens(const PackedBatch& batch) {
  at::Tensor begins = batch.cu_seqlens.slice(0, 0, -1).to(at::kLong);
  if (batch.n_images() == 0) return begins;
  return batch.text_positions.index_select(0, at::searchsorted(batch.text_positions, begins));
}

}  // namespace

// The embeddings: sum of the tables, norm, dropout. Behind the layers: the pooling.
class BertBackbone::Pass final : public PassOver<TransformerLayer, PackedLayout> {
 public:
  Pass(const BertBackbone& backbone, const PackedBatch& batch, const PassContext& context)
      : PassOver(backbone.layers_, packed_layout(batch.cu_seqlens, batch.offsets_on_host(), batch.sequence_keys,
                                                 batch.max_seqlen, context,
                                                 /*has_dropout=*/true)),
        backbone_(&backbone),
        dropout_{.p = context.training ? backbone.config_.hidden_dropout : 0.0,
                 .seed = context.seed,
                 .step = context.step,
                 .site = kEmbeddingSite,
                 .device_step = context.device_step} {}

  at::Tensor embed(const PackedBatch& batch, const at::Tensor& images, bool keep) override {
    const auto& [store, config] = parts();
    const at::Tensor pictures =
        images.defined() ? images : at::empty({0, config.width}, batch.tokens.options().dtype(at::kFloat));
    const at::Tensor type = backbone_->type_ >= 0 ? store.value(backbone_->type_).select(0, 0) : at::Tensor();
    NormResult embedding = norm_dropout(embed_positions(batch.tokens, batch.position_ids, store.value(backbone_->word_),
                                                        store.value(backbone_->position_), type, pictures,
                                                        batch.image_positions, store.compute_dtype()),
                                        store.value(backbone_->norm_weight_), store.value(backbone_->norm_bias_),
                                        config.norm_eps, shared_.token_keys, dropout_);
    at::Tensor x = std::exchange(embedding.y, {});
    if (keep) embedding_ = std::move(embedding);
    return x;
  }

  at::Tensor finish(at::Tensor x, const PackedBatch& batch, bool) override {
    return picks_first() ? pick_pool(x, first_tokens(batch)) : mean_pool(x, batch.cu_seqlens);
  }

  at::Tensor finish_backward(const at::Tensor& grad_h, const PackedBatch& batch) override {
    const auto dtype = backbone_->store_->compute_dtype();
    return picks_first() ? pick_pool_backward(grad_h, first_tokens(batch), batch.n_positions(), dtype)
                         : mean_pool_backward(grad_h, batch.cu_seqlens, batch.n_positions(), dtype);
  }

  at::Tensor embed_backward(const at::Tensor& grad, const PackedBatch& batch) override {
    ParameterStore& store = *backbone_->store_;
    const int word = backbone_->word_, type = backbone_->type_, weight = backbone_->norm_weight_;
    const at::Tensor grad_sum =
        norm_dropout_backward(grad, embedding_, store.value(weight), shared_.token_keys, dropout_,
                              store.grad_or_scratch(weight), store.grad_or_scratch(backbone_->norm_bias_));
    embedding_ = {};
    if (!store.trained(word)) return grad_sum.index_select(0, batch.image_positions).to(at::kFloat);
    return embed_positions_backward(grad_sum, batch.tokens, batch.position_ids, batch.image_positions, store.grad(word),
                                    store.grad(backbone_->position_),
                                    type >= 0 ? store.grad(type).select(0, 0) : at::Tensor());
  }

 private:
  std::pair<const ParameterStore&, const BertConfig&> parts() const { return {*backbone_->store_, backbone_->config_}; }
  bool picks_first() const { return backbone_->options_.model.pooling == Pooling::kCls; }

  const BertBackbone* backbone_;
  Dropout dropout_;  // of the embeddings
  NormResult embedding_;
};

BertBackbone::BertBackbone(const EncoderOptions& options, const BertConfig& config, ParameterStore& store)
    : options_(options), config_(config), store_(&store) {
  traits_ = {.width = config.width,
             .layers = config.layers,
             .vocabulary = config.vocabulary,
             .max_positions = config.positions};
  position_limit_ = fmt::format("{}/config.json: max_position_embeddings is {}", options.model.path, config.positions);
  weights_.parameters = backbone_parameters(config);
  weights_.prefixes = {"", std::string(config.variant->prefix)};
  weights_.first = register_backbone(weights_.parameters, options.frozen_backbone(), store);
  int next = weights_.first;
  word_ = next++;
  position_ = next++;
  if (config_.types > 0) type_ = next++;
  norm_weight_ = next++;
  norm_bias_ = next++;
  ranges_.embeddings = {weights_.first, next};
  std::vector<TransformerLayerParameters> layers(static_cast<size_t>(config_.layers));
  for (auto& p : layers) {
    const int begin = next;
    for (int* index : {&p.qkv.weight, &p.qkv.bias, &p.out.weight, &p.out.bias, &p.norm1_weight, &p.norm1_bias,
                       &p.ff1.weight, &p.ff1.bias, &p.ff2.weight, &p.ff2.bias, &p.norm2_weight, &p.norm2_bias})
      *index = next++;
    ranges_.layers.push_back({begin, next});
  }
  VIXEN_CHECK(next == store.count(), "{} parameters registered, {} numbered", store.count(), next);
  for (int64_t i = 0; i < config_.layers; ++i) {
    auto& p = layers[static_cast<size_t>(i)];
    const int begin = store.count();
    add_adapters(i, p);
    ranges_.adapters.push_back({begin, store.count()});
    layers_.emplace_back(
        store,
        TransformerLayerOptions{.width = config_.width,
                                .heads = config_.heads,
                                .feed_forward = config_.feed_forward,
                                .norm_eps = config_.norm_eps,
                                .out_dropout = config_.out_dropout,
                                .hidden_dropout = config_.hidden_dropout,
                                .attention_dropout = config_.attention_dropout,
                                .first_site = kFirstLayerSite + kSitesPerLayer * static_cast<uint32_t>(i)},
        std::move(p));
  }
  if (options_.lora.rank > 0 && store.count() == next)
    fail_user("lora.modules: {} found, expected some of q, k, v, o, up, down for the encoder of {}",
              options_.lora.modules, options_.model.path);
}

void BertBackbone::add_adapters(int64_t layer, TransformerLayerParameters& parameters) {
  const BertLayerModules modules = layer_modules(config_, layer);
  const int64_t d = config_.width, f = config_.feed_forward;
  uint32_t site = kFirstAdapterSite + kSitesPerLayer * static_cast<uint32_t>(layer);
  const auto add = [&](const std::string& name, const std::vector<LoraSlot>& slots, int64_t inputs,
                       AdaptedLinear& linear) {
    add_lora(options_.lora, name, slots, inputs, site++, options_.trainable, *store_, linear);
  };
  add(modules.qkv,
      {{LoraModule::kQuery, 0, d, modules.query},
       {LoraModule::kKey, d, d, modules.key},
       {LoraModule::kValue, 2 * d, d, modules.value}},
      d, parameters.qkv);
  add(modules.out, {{LoraModule::kOut, 0, d, modules.out}}, d, parameters.out);
  add(modules.ff1, {{LoraModule::kUp, 0, f, modules.ff1}}, d, parameters.ff1);
  add(modules.ff2, {{LoraModule::kDown, 0, d, modules.ff2}}, f, parameters.ff2);
}

std::vector<const AdaptedLinear*> BertBackbone::linears() const {
  std::vector<const AdaptedLinear*> all;
  for (const auto& layer : layers_) {
    const auto& p = layer.parameters();
    all.insert(all.end(), {&p.qkv, &p.out, &p.ff1, &p.ff2});
  }
  return all;
}

std::unique_ptr<BackbonePass> BertBackbone::begin(const PackedBatch& batch, const PassContext& context) const {
  return std::make_unique<Pass>(*this, batch, context);
}

double BertBackbone::attention_flops(int64_t positions, int64_t sum_squared_lengths) const {
  return layers_.front().attention_flops(positions, sum_squared_lengths);
}

LayerBytes BertBackbone::layer_bytes(const BatchShape& shape, const KernelMoments& moments) const {
  return layers_.front().bytes(shape, compute_dtype(options_.model), moments);
}

int64_t BertBackbone::end_bytes(const BatchShape& shape) const {
  constexpr int64_t kFloatBytes = sizeof(float);
  const auto element = static_cast<int64_t>(at::elementSize(compute_dtype(options_.model)));
  // h, the keys of dropout; where something below learns, the embeddings' norm: its input and statistics.
  int64_t bytes = kFloatBytes * shape.sequences * config_.width + token_key_bytes(shape.positions);
  if (learns_below(shape.images))
    bytes += shape.positions * element * config_.width + norm_statistics_bytes(shape.positions);
  return bytes;
}

bool BertBackbone::learns_below(int64_t images) const {
  return store_->trained(word_) || (images > 0 && options_.trainable);
}

LayerTraffic BertBackbone::layer_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool training) const {
  return layers_.front().traffic(shape, traffic, training);
}

LayerTraffic BertBackbone::end_traffic(const BatchShape& shape, const KernelTraffic& traffic, bool training) const {
  const int64_t t = shape.positions, n = shape.sequences, d = config_.width;
  const bool drops = training && config_.hidden_dropout > 0, types = type_ >= 0;
  LayerTraffic bytes;
  bytes.forward = traffic.embed_positions(t, d, types) + traffic.norm_dropout(t, d, drops) + traffic.mean_pool(t, n, d);
  bytes.backward = traffic.mean_pool_backward(t, n, d);
  if (learns_below(shape.images)) bytes.backward += traffic.norm_dropout_backward(t, d, drops);
  // The tables' gradients: of words, of positions, whose few rows take little to write, and of the one type.
  if (store_->trained(word_)) bytes.backward += traffic.segment_sums(t, d) + traffic.passes(t * d, types ? 2 : 1);
  return bytes;
}

std::string BertBackbone::config_text(const std::string& dtype) const {
  return saved_config_text(options_.model, config_, dtype);
}

}  // namespace vixen
