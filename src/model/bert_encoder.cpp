#include "model/bert_encoder.hpp"

#include <ATen/ATen.h>

#include <map>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "kernels/embedding.hpp"
#include "kernels/pooling.hpp"
#include "model/linear.hpp"
#include "model/safetensors.hpp"

namespace vixen {
namespace {

// Dropout sites: the embeddings', then four a layer.
constexpr uint32_t kEmbeddingSite = 0;
constexpr uint32_t kFirstLayerSite = 1;
constexpr uint32_t kSitesPerLayer = 4;
constexpr int kParametersPerLayer = 12;

int64_t n_images(const PackedBatch& batch) {
  return batch.image_positions.defined() ? batch.image_positions.size(0) : 0;
}

}  // namespace

// What a forward pass keeps.
struct BertEncoder::Activations final : Encoder::Saved {
  PackedLayout layout;
  NormResult embedding;
  std::vector<TransformerLayer::Saved> layers;
};

BertEncoder::BertEncoder(const EncoderOptions& options, const BertConfig& config, ParameterStore& store)
    : options_(options), config_(config), store_(&store), first_(store.count()) {
  const auto parameters = backbone_parameters(config_);
  for (const auto& p : parameters) store.add(p.name, p.shape, p.group, p.in_products);
  int next = first_;
  word_ = next++;
  position_ = next++;
  if (config_.types > 0) type_ = next++;
  norm_weight_ = next++;
  norm_bias_ = next++;
  n_embedding_ = next - first_;
  for (int64_t i = 0; i < config_.layers; ++i) {
    TransformerLayerParameters p;
    for (int* index : {&p.qkv_weight, &p.qkv_bias, &p.out_weight, &p.out_bias, &p.norm1_weight, &p.norm1_bias,
                       &p.ff1_weight, &p.ff1_bias, &p.ff2_weight, &p.ff2_bias, &p.norm2_weight, &p.norm2_bias})
      *index = next++;
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
        p);
  }
  VIXEN_CHECK(next == store.count(), "{} parameters registered, {} numbered", store.count(), next);
  if (options_.image_width > 0) {
    image_weight_ = store.add("image_projection.weight", {config_.width, options_.image_width}, ParameterGroup::kImage);
    image_bias_ = store.add("image_projection.bias", {config_.width}, ParameterGroup::kImageNoDecay);
  }
  end_ = store.count();
}

double BertEncoder::forward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  const double d = static_cast<double>(config_.width), f = static_cast<double>(config_.feed_forward);
  const double products = 2 * (3 * d * d + d * d + 2 * d * f) * static_cast<double>(positions);
  const double attention = 2 * 2 * d * static_cast<double>(sum_squared_lengths);
  return static_cast<double>(config_.layers) * (products + attention);
}

void BertEncoder::check(const PackedBatch& batch) const {
  if (batch.max_seqlen > config_.positions)
    fail_user(
        "{}/config.json: max_position_embeddings is {}, expected at least the {} positions of the longest sequence",
        options_.model.path, config_.positions, batch.max_seqlen);
  VIXEN_CHECK(n_images(batch) == 0 || image_weight_ >= 0, "pictures in a batch of an encoder without projection");
}

PackedLayout BertEncoder::layout(const PackedBatch& batch, const PassContext& context) const {
  PackedLayout layout;
  layout.cu_seqlens = batch.cu_seqlens;
  layout.sequence_keys = batch.sequence_keys;
  layout.max_seqlen = batch.max_seqlen;
  layout.training = context.training;
  layout.seed = context.seed;
  layout.step = context.step;
  if (context.training) layout.token_keys = make_token_keys(batch.cu_seqlens, batch.sequence_keys);
  return layout;
}

// [M, D] float32: the projected pictures.
at::Tensor BertEncoder::image_rows(const PackedBatch& batch) const {
  if (n_images(batch) == 0) return at::empty({0, config_.width}, batch.tokens.options().dtype(at::kFloat));
  return linear(*store_, batch.image_embeddings.to(store_->compute_dtype()), image_weight_, image_bias_).to(at::kFloat);
}

at::Tensor BertEncoder::forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) {
  check(batch);
  std::unique_ptr<Activations> kept;
  if (saved != nullptr) kept = std::make_unique<Activations>();
  if (batch.n_sequences() == 0) {  // a rank without rows
    if (kept) *saved = std::move(kept);
    return at::empty({0, config_.width}, batch.tokens.options().dtype(at::kFloat));
  }
  const PackedLayout packed = layout(batch, context);
  const at::Tensor type = type_ >= 0 ? store_->value(type_).select(0, 0) : at::Tensor();
  const Dropout dropout{.p = context.training ? config_.hidden_dropout : 0.0,
                        .seed = context.seed,
                        .step = context.step,
                        .site = kEmbeddingSite};
  at::Tensor x;
  {
    NormResult embedding = norm_dropout(
        embed_positions(batch.tokens, batch.position_ids, store_->value(word_), store_->value(position_), type,
                        image_rows(batch), batch.image_positions, store_->compute_dtype()),
        store_->value(norm_weight_), store_->value(norm_bias_), config_.norm_eps, packed.token_keys, dropout);
    x = std::exchange(embedding.y, {});
    if (kept) kept->embedding = std::move(embedding);
  }
  if (kept) {
    kept->layout = packed;
    kept->layers.resize(layers_.size());
  }
  for (size_t i = 0; i < layers_.size(); ++i) x = layers_[i].forward(x, packed, kept ? &kept->layers[i] : nullptr);
  if (saved != nullptr) *saved = std::move(kept);
  return mean_pool(x, batch.cu_seqlens);
}

void BertEncoder::backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                           const std::function<void(int, int)>& on_ready) {
  auto& kept = dynamic_cast<Activations&>(saved);
  if (batch.n_sequences() == 0) {
    if (on_ready) on_ready(first_, end_);
    return;
  }
  VIXEN_CHECK(kept.layers.size() == layers_.size(), "the activations are of another pass");
  at::Tensor grad = mean_pool_backward(grad_h, batch.cu_seqlens, batch.n_positions(), store_->compute_dtype());
  const int first_layer = first_ + n_embedding_;
  for (size_t i = layers_.size(); i-- > 0;) {
    grad = layers_[i].backward(grad, kept.layout, kept.layers[i]);
    const int first = first_layer + kParametersPerLayer * static_cast<int>(i);
    if (on_ready) on_ready(first, first + kParametersPerLayer);
  }
  const Dropout dropout{.p = context.training ? config_.hidden_dropout : 0.0,
                        .seed = context.seed,
                        .step = context.step,
                        .site = kEmbeddingSite};
  grad = norm_dropout_backward(grad, kept.embedding, store_->value(norm_weight_), kept.layout.token_keys, dropout,
                               store_->grad(norm_weight_), store_->grad(norm_bias_));
  kept.embedding = {};
  const at::Tensor grad_images =
      embed_positions_backward(grad, batch.tokens, batch.position_ids, batch.image_positions, store_->grad(word_),
                               store_->grad(position_), type_ >= 0 ? store_->grad(type_).select(0, 0) : at::Tensor());
  if (on_ready) on_ready(first_, first_layer);
  if (image_weight_ < 0) return;
  if (n_images(batch) > 0) {
    const auto dtype = store_->compute_dtype();
    linear_backward_parameters(*store_, grad_images.to(dtype), batch.image_embeddings.to(dtype), image_weight_,
                               image_bias_);
  }
  if (on_ready) on_ready(image_weight_, image_bias_ + 1);
}

void BertEncoder::save(const std::filesystem::path& folder) const {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_user("{}: cannot create the folder: {}", folder.string(), error.message());

  std::map<std::string, at::Tensor> tensors;
  for (const auto& parameter : backbone_parameters(config_)) {
    const int index = store_->find(parameter.name);
    const auto parts = store_->value(index).chunk(static_cast<int64_t>(parameter.tensors.size()), 0);
    for (size_t i = 0; i < parts.size(); ++i) tensors[parameter.tensors[i]] = parts[i];
  }
  write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  if (image_weight_ >= 0)
    write_safetensors(folder / "image_projection.safetensors",
                      {{"image_projection.weight", store_->value(image_weight_)},
                       {"image_projection.bias", store_->value(image_bias_)}});
  const std::filesystem::path source = options_.model.path;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"})
    if (std::filesystem::exists(source / name)) write_text_atomically(folder / name, read_text(source / name));
  // Last, so that a folder with a config is whole.
  write_text_atomically(folder / "config.json", saved_config_text(options_.model, config_));
}

}  // namespace vixen
