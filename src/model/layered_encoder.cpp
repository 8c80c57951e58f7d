#include "model/layered_encoder.hpp"

#include <ATen/ATen.h>

#include <initializer_list>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.hpp"

namespace vixen {

// What a forward pass keeps. Of a batch without sequences: nothing.
struct LayeredEncoder::Kept final : Encoder::Saved {
  PassContext context;
  std::optional<LateFusion::Parts> parts;
  std::unique_ptr<BackbonePass> pass;  // null when used up
  std::vector<at::Tensor> inputs;      // of the layers that are computed again
  ImageAdapter::Saved images;
  LateFusion::Saved late;
};

LayeredEncoder::LayeredEncoder(const EncoderOptions& options, std::unique_ptr<Backbone> backbone, ParameterStore& store)
    : options_(options), store_(&store), backbone_(std::move(backbone)) {
  if (options.model.fusion == Fusion::kLate)
    late_ = std::make_unique<LateFusion>(options, width(), store);
  else if (options.image_width > 0)
    images_ = std::make_unique<ImageAdapter>(options.model, options.image_width, width(), options.trainable, store);
}

void LayeredEncoder::check(const PackedBatch& batch, const PackedBatch& text) const {
  VIXEN_CHECK(batch.n_images() == 0 || (late_ ? late_->has_images() : images_ != nullptr),
              "pictures in a batch of an encoder without image adapter");
  if (text.max_seqlen > traits().max_positions)
    fail_user("{}, expected at least the {} positions of the longest sequence", backbone_->position_limit(),
              text.max_seqlen);
}

bool LayeredEncoder::wants_embedding_gradient(const PackedBatch& text) const {
  return store_->trained(backbone_->ranges().embeddings.first) ||
         (text.n_images() > 0 && store_->trained(images_->parameters().first));
}

at::Tensor LayeredEncoder::forward(const PackedBatch& batch, const PassContext& context,
                                   std::unique_ptr<Saved>* saved) {
  std::unique_ptr<Kept> kept;
  if (saved != nullptr) kept = std::make_unique<Kept>();
  if (batch.n_sequences() == 0) {  // a rank without rows
    if (kept) *saved = std::move(kept);
    return at::empty({0, width()}, batch.tokens.options().dtype(at::kFloat));
  }
  std::optional<LateFusion::Parts> parts;
  if (late_) parts = take_apart(batch);
  const PackedBatch& text = parts ? parts->text : batch;
  check(batch, text);

  auto pass = backbone_->begin(text, context);
  const size_t layers = static_cast<size_t>(n_layers());
  if (kept) kept->inputs.resize(layers);
  at::Tensor x;
  {
    at::Tensor images;
    if (text.n_images() > 0) images = images_->forward(text.image_embeddings, kept ? &kept->images : nullptr);
    x = pass->embed(text, images, kept && wants_embedding_gradient(text));
  }
  for (size_t i = 0; i < layers; ++i) {
    const bool again = static_cast<int64_t>(i) < recompute_layers_;
    if (kept && again) kept->inputs[i] = x;
    x = pass->layer(i, x, kept && !again);
  }
  at::Tensor h = pass->finish(std::move(x), text, kept != nullptr);
  if (late_) h = late_->forward(h, batch, *parts, kept ? &kept->late : nullptr);
  if (kept) {
    kept->context = context;
    kept->pass = std::move(pass);
    kept->parts = std::move(parts);
    *saved = std::move(kept);
  }
  return h;
}

std::vector<BackwardPiece> LayeredEncoder::backward_pieces() const {
  const BackboneRanges& ranges = backbone_->ranges();
  std::vector<BackwardPiece> pieces;
  const auto add = [&](bool is_layer, std::initializer_list<ParameterRange> finished) {
    auto& piece = pieces.emplace_back(BackwardPiece{is_layer, {}});
    for (const auto& range : finished)
      if (range.first < range.last && store_->trained(range.first)) piece.finished.push_back(range);
  };
  if (late_) add(false, {late_->block_parameters(), late_->image_parameters()});
  add(false, {ranges.final_pieces});
  for (size_t i = ranges.layers.size(); i-- > 0;) add(true, {ranges.layers[i], ranges.adapters[i]});
  add(false, {ranges.embeddings, images_ ? images_->parameters() : ParameterRange{}});
  return pieces;
}

// Piece after piece, from the last to the first: the gradients of a piece where there are sequences, then, with or
// without, the announcement of its parameters. Each announcement is a collective, so this is the only way to make one.
void LayeredEncoder::backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context,
                              Saved& saved, const std::function<void(int, int)>& on_ready) {
  auto& kept = dynamic_cast<Kept&>(saved);
  const bool empty = batch.n_sequences() == 0;
  VIXEN_CHECK(empty || (kept.pass && kept.context.step == context.step && kept.context.training == context.training),
              "the activations are of another pass, or used up");
  const auto pass = std::move(kept.pass);
  const PackedBatch& text = kept.parts ? kept.parts->text : batch;
  const auto pieces = backward_pieces();
  auto next = pieces.begin();
  const auto piece = [&](const auto& gradients) {
    if (!empty) gradients();
    for (const auto [first, last] : next->finished)
      if (on_ready) on_ready(first, last);
    ++next;
  };

  at::Tensor grad = grad_h;
  if (late_) piece([&] { grad = late_->backward(grad, batch, *kept.parts, kept.late); });
  piece([&] { grad = pass->finish_backward(grad, text); });
  const bool to_embeddings = !empty && wants_embedding_gradient(text);
  for (size_t i = backbone_->ranges().layers.size(); i-- > 0;)
    piece([&] {
      if (kept.inputs[i].defined()) pass->recompute_layer(i, std::exchange(kept.inputs[i], {}));
      grad = pass->layer_backward(i, grad, i > 0 || to_embeddings);
    });
  piece([&] {
    if (!to_embeddings) return;
    const at::Tensor grad_images = pass->embed_backward(grad, text);
    if (text.n_images() > 0) images_->backward(grad_images, text.image_embeddings, kept.images);
  });
  VIXEN_CHECK(next == pieces.end(), "{} pieces of a backward pass are left", pieces.end() - next);
}

}  // namespace vixen
