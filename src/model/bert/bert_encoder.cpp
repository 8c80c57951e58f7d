#include "model/bert/bert_encoder.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "base/check.hpp"
#include "kernels/embedding.hpp"
#include "kernels/pooling.hpp"

namespace vixen {
namespace {

// Dropout sites: the embeddings', then four a layer; the adapters' four a layer far behind them.
constexpr uint32_t kEmbeddingSite = 0;
constexpr uint32_t kFirstLayerSite = 1;
constexpr uint32_t kSitesPerLayer = 4;
constexpr uint32_t kFirstAdapterSite = 30000;

// Where each sequence's first token stands, [CLS]: behind the pictures, when those come first. int64 [n].
at::Tensor first_tokens(const PackedBatch& batch) {
  const at::Tensor begins = batch.cu_seqlens.slice(0, 0, -1).to(at::kLong);
  if (batch.n_images() == 0) return begins;
  return batch.text_positions.index_select(0, at::searchsorted(batch.text_positions, begins));
}

}  // namespace

// What a forward pass keeps.
struct BertEncoder::Activations final : Encoder::Saved {
  PackedLayout layout;
  ImageAdapter::Saved images;
  NormResult embedding;
  std::vector<TransformerLayer::Saved> layers;  // only the input of those that are computed again
  std::vector<bool> again;
};

BertEncoder::BertEncoder(const EncoderOptions& options, const BertConfig& config, ParameterStore& store)
    : BackboneEncoder(options, store), config_(config) {
  first_ = register_backbone(backbone(), frozen(), store);
  int next = first_;
  word_ = next++;
  position_ = next++;
  if (config_.types > 0) type_ = next++;
  norm_weight_ = next++;
  norm_bias_ = next++;
  first_layer_ = next;
  std::vector<TransformerLayerParameters> layers(static_cast<size_t>(config_.layers));
  for (auto& p : layers)
    for (int* index : {&p.qkv.weight, &p.qkv.bias, &p.out.weight, &p.out.bias, &p.norm1_weight, &p.norm1_bias,
                       &p.ff1.weight, &p.ff1.bias, &p.ff2.weight, &p.ff2.bias, &p.norm2_weight, &p.norm2_bias})
      *index = next++;
  VIXEN_CHECK(next == store.count(), "{} parameters registered, {} numbered", store.count(), next);
  const int first_adapter = next;
  for (int64_t i = 0; i < config_.layers; ++i) {
    auto& p = layers[static_cast<size_t>(i)];
    const int begin = store.count();
    add_adapters(i, p);
    adapters_.push_back({begin, store.count()});
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
  if (options_.lora.rank > 0 && store.count() == first_adapter)
    fail_user("lora.modules: {} found, expected some of q, k, v, o, up, down for the encoder of {}",
              options_.lora.modules, options_.model.path);
  add_image_adapter();
}

void BertEncoder::add_adapters(int64_t layer, TransformerLayerParameters& parameters) {
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

std::vector<const AdaptedLinear*> BertEncoder::linears() const {
  std::vector<const AdaptedLinear*> all;
  for (const auto& layer : layers_) {
    const auto& p = layer.parameters();
    all.insert(all.end(), {&p.qkv, &p.out, &p.ff1, &p.ff2});
  }
  return all;
}

void BertEncoder::check(const PackedBatch& batch) const {
  if (batch.max_seqlen > config_.positions)
    fail_user(
        "{}/config.json: max_position_embeddings is {}, expected at least the {} positions of the longest sequence",
        options_.model.path, config_.positions, batch.max_seqlen);
  check_images(batch);
}

at::Tensor BertEncoder::forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) {
  check(batch);
  std::unique_ptr<Activations> kept;
  if (saved != nullptr) kept = std::make_unique<Activations>();
  if (batch.n_sequences() == 0) {  // a rank without rows
    if (kept) *saved = std::move(kept);
    return at::empty({0, config_.width}, batch.tokens.options().dtype(at::kFloat));
  }
  const PackedLayout packed =
      packed_layout(batch.cu_seqlens, batch.sequence_keys, batch.max_seqlen, context, /*has_dropout=*/true);
  const at::Tensor type = type_ >= 0 ? store_->value(type_).select(0, 0) : at::Tensor();
  const Dropout dropout{.p = context.training ? config_.hidden_dropout : 0.0,
                        .seed = context.seed,
                        .step = context.step,
                        .site = kEmbeddingSite};
  at::Tensor x;
  {
    at::Tensor images = at::empty({0, config_.width}, batch.tokens.options().dtype(at::kFloat));
    if (batch.n_images() > 0) images = images_->forward(batch.image_embeddings, kept ? &kept->images : nullptr);
    NormResult embedding = norm_dropout(
        embed_positions(batch.tokens, batch.position_ids, store_->value(word_), store_->value(position_), type, images,
                        batch.image_positions, store_->compute_dtype()),
        store_->value(norm_weight_), store_->value(norm_bias_), config_.norm_eps, packed.token_keys, dropout);
    x = std::exchange(embedding.y, {});
    if (kept && wants_embedding_gradient(batch, word_)) kept->embedding = std::move(embedding);
  }
  if (kept) {
    kept->layout = packed;
    kept->layers.resize(layers_.size());
    kept->again.resize(layers_.size());
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    const bool again = static_cast<int64_t>(i) < recompute_layers_;
    if (kept) kept->again[i] = again;
    if (kept && again) kept->layers[i].input = x;
    x = layers_[i].forward(x, packed, kept && !again ? &kept->layers[i] : nullptr);
  }
  if (saved != nullptr) *saved = std::move(kept);
  return options_.model.pooling == Pooling::kCls ? pick_pool(x, first_tokens(batch)) : mean_pool(x, batch.cu_seqlens);
}

void BertEncoder::backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                           const std::function<void(int, int)>& on_ready) {
  auto& kept = dynamic_cast<Activations&>(saved);
  const bool empty = batch.n_sequences() == 0;
  VIXEN_CHECK(empty || kept.layers.size() == layers_.size(), "the activations are of another pass");
  // A rank without rows announces the same ranges in the same order: each is a collective. Beside adapters the frozen
  // ones have no gradient to announce.
  const auto ready = [&](int first, int last) {
    if (on_ready && first < last && store_->trained(first)) on_ready(first, last);
  };
  const bool to_embeddings = !empty && wants_embedding_gradient(batch, word_);
  at::Tensor grad;
  if (!empty) {
    const auto dtype = store_->compute_dtype();
    grad = options_.model.pooling == Pooling::kCls
               ? pick_pool_backward(grad_h, first_tokens(batch), batch.n_positions(), dtype)
               : mean_pool_backward(grad_h, batch.cu_seqlens, batch.n_positions(), dtype);
  }
  for (size_t i = layers_.size(); i-- > 0;) {
    if (!empty) {
      if (kept.again[i]) {
        const at::Tensor x = std::exchange(kept.layers[i].input, {});
        layers_[i].forward(x, kept.layout, &kept.layers[i]);
      }
      grad = layers_[i].backward(grad, kept.layout, kept.layers[i], i > 0 || to_embeddings);
    }
    const int first = first_layer_ + kBertLayerParameters * static_cast<int>(i);
    ready(first, first + kBertLayerParameters);
    ready(adapters_[i].first, adapters_[i].last);
  }
  if (to_embeddings) embeddings_backward(grad, batch, context, kept);
  ready(first_, first_layer_);
  if (images_ != nullptr) ready(images_->first_parameter(), images_->last_parameter());
}

void BertEncoder::embeddings_backward(const at::Tensor& grad, const PackedBatch& batch, const PassContext& context,
                                      Activations& kept) {
  const Dropout dropout{.p = context.training ? config_.hidden_dropout : 0.0,
                        .seed = context.seed,
                        .step = context.step,
                        .site = kEmbeddingSite};
  const at::Tensor grad_sum =
      norm_dropout_backward(grad, kept.embedding, store_->value(norm_weight_), kept.layout.token_keys, dropout,
                            store_->grad_or_scratch(norm_weight_), store_->grad_or_scratch(norm_bias_));
  kept.embedding = {};
  at::Tensor grad_images;
  if (store_->trained(word_))
    grad_images =
        embed_positions_backward(grad_sum, batch.tokens, batch.position_ids, batch.image_positions, store_->grad(word_),
                                 store_->grad(position_), type_ >= 0 ? store_->grad(type_).select(0, 0) : at::Tensor());
  else
    grad_images = grad_sum.index_select(0, batch.image_positions).to(at::kFloat);
  if (batch.n_images() > 0) images_->backward(grad_images, batch.image_embeddings, kept.images);
}

std::string BertEncoder::config_text(const std::string& dtype) const {
  return saved_config_text(options_.model, config_, dtype);
}

}  // namespace vixen
