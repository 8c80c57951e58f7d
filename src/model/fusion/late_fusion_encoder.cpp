#include "model/fusion/late_fusion_encoder.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <map>

#include "base/check.hpp"
#include "base/file.hpp"
#include "model/initialise.hpp"
#include "model/weights/safetensors.hpp"
#include "model/torch_encoder_layer.hpp"

namespace vixen {
namespace {

constexpr const char* kPrefix = "fusion.";

// Counts of each sequence -> int64 [n+1]: where each begins, and their sum.
at::Tensor offsets_of(const at::Tensor& counts) {
  return at::cat({at::zeros({1}, counts.options()), counts.cumsum(0)});
}

// A batch taken apart: what the text encoder sees, and the bags of the block.
struct Parts {
  PackedBatch text;
  PackedLayout bags;      // n sequences of 1 + their pictures
  at::Tensor text_rows;   // int64 [n]: rows of the pooled texts among the n + M of the bags
  at::Tensor image_rows;  // int64 [M]: those of the pictures, in the order of the batch
};

Parts take_apart(const PackedBatch& batch) {
  const int64_t n = batch.n_sequences(), positions = batch.n_positions();
  const auto longs = batch.tokens.options().dtype(at::kLong);
  const at::Tensor sequences = at::arange(n, longs);
  const at::Tensor lengths = batch.cu_seqlens.to(at::kLong).diff();
  const at::Tensor sequence_of = at::repeat_interleave(sequences, lengths, 0, positions);  // [T]
  const bool pictures = batch.n_images() > 0;

  at::Tensor image_counts = at::zeros({n}, longs), image_sequence;
  if (pictures) {
    image_sequence = sequence_of.index_select(0, batch.image_positions);
    image_counts = at::bincount(image_sequence, {}, n);
  }
  const at::Tensor text_lengths = lengths - image_counts;
  const at::Tensor text_offsets = offsets_of(text_lengths);
  // Both maxima in one copy to the host.
  const at::Tensor longest = at::stack({text_lengths.max(), image_counts.max()}).cpu();

  Parts parts;
  parts.text.tokens = pictures ? batch.tokens.index_select(0, batch.text_positions) : batch.tokens;
  const at::Tensor text_sequence = pictures ? sequence_of.index_select(0, batch.text_positions) : sequence_of;
  const int64_t tokens = parts.text.tokens.size(0);
  parts.text.text_positions = at::arange(tokens, longs);
  parts.text.position_ids = parts.text.text_positions - text_offsets.index_select(0, text_sequence);
  parts.text.cu_seqlens = text_offsets.to(at::kInt);
  parts.text.image_positions = at::empty({0}, longs);
  parts.text.sequence_keys = batch.sequence_keys;
  parts.text.max_seqlen = longest[0].item<int64_t>();

  parts.bags.cu_seqlens = offsets_of(image_counts + 1).to(at::kInt);
  parts.bags.sequence_keys = batch.sequence_keys;
  parts.bags.max_seqlen = 1 + longest[1].item<int64_t>();
  parts.text_rows = parts.bags.cu_seqlens.narrow(0, 0, n).to(at::kLong);
  // Pictures lie in the order of their sequences: picture m has m pictures and 1 + its sequence's number of texts
  // before it.
  if (pictures) parts.image_rows = at::arange(batch.n_images(), longs) + image_sequence + 1;
  return parts;
}

}  // namespace

struct LateFusionEncoder::Activations final : Encoder::Saved {
  Parts parts;
  std::unique_ptr<Encoder::Saved> text;
  ImageAdapter::Saved images;
  TransformerLayer::Saved block;
};

LateFusionEncoder::LateFusionEncoder(const EncoderOptions& options, std::unique_ptr<Encoder> text,
                                     ParameterStore& store)
    : options_(options), text_(std::move(text)), store_(&store) {
  const int64_t d = text_->width();
  if (options.model.fusion_heads < 1 || d % options.model.fusion_heads != 0)
    fail_user("model.fusion_heads: {} found, expected a divisor of the backbone's width {}", options.model.fusion_heads,
              d);
  if (options.image_width > 0)
    images_ = std::make_unique<ImageAdapter>(options.model, options.image_width, d, options.trainable, store);
  // A small block: its feed-forward is as wide as the backbone, for the usual 4 D would be 100 million parameters
  // beside Qwen2.5-7B.
  const TorchLayerGroups groups =
      options.trainable
          ? TorchLayerGroups{ParameterGroup::kImage, ParameterGroup::kImageNoDecay, ParameterGroup::kImageNoDecay}
          : TorchLayerGroups{ParameterGroup::kFrozen, ParameterGroup::kFrozen, ParameterGroup::kFrozen};
  const auto parameters = register_torch_layer(kPrefix, d, d, groups, store);
  block_ = std::make_unique<TransformerLayer>(
      store,
      TransformerLayerOptions{
          .width = d, .heads = options.model.fusion_heads, .feed_forward = d, .norm_eps = kTorchNormEps},
      parameters);
}

void LateFusionEncoder::load_weights(uint64_t seed) {
  text_->load_weights(seed);
  const auto folders = options_.folders();
  if (images_) images_->load(folders, seed);
  load_block(folders, seed);
  store_->refresh_compute();
}

void LateFusionEncoder::load_block(const std::vector<std::filesystem::path>& folders, uint64_t seed) {
  const auto& p = block_->parameters();
  for (const auto& folder : folders) {
    const auto path = folder / kFusionFile;
    if (!std::filesystem::exists(path)) continue;
    const SafetensorsFile file(path);
    for (int i = p.qkv.weight; i < p.qkv.weight + kTorchLayerParameters; ++i) {
      const ParameterInfo& info = store_->info(i);
      const at::Tensor value = file.tensor(info.name);
      if (value.sizes() != at::IntArrayRef(info.shape) || !value.is_floating_point())
        fail_user("{}: tensor {} is {} [{}], expected floats [{}] (backbone of width {})", path.string(), info.name,
                  c10::toString(value.scalar_type()), fmt::join(value.sizes().vec(), ", "), fmt::join(info.shape, ", "),
                  width());
      const bool norm = info.name.find("norm") != std::string::npos;
      set_parameter(*store_, i, value, norm ? at::kFloat : store_->compute_dtype());
    }
    return;
  }
  initialise_torch_layer(p, seed, *store_);
}

double LateFusionEncoder::forward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  // Pictures are counted as positions of the backbone: more than what they cost in the block.
  return text_->forward_flops(positions, sum_squared_lengths);
}

double LateFusionEncoder::backward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  return text_->backward_flops(positions, sum_squared_lengths);
}

Encoder::ActivationBytes LateFusionEncoder::activation_bytes(const BatchShape& shape) const {
  BatchShape text = shape;
  text.positions -= shape.images;
  text.images = 0;
  ActivationBytes bytes = text_->activation_bytes(text);
  const int64_t c = store_->compute_dtype() == at::kFloat ? 4 : 2, d = width();
  const int64_t rows = shape.sequences + shape.images;
  // Kept: TransformerLayer::Saved (8 D + 2 F with F = D, of which the context's sum and both norms' are D each), its
  // log-sum-exps and norm statistics; the mlp's hidden rows; index tensors of the parts (int64 a position).
  bytes.ends += rows * (10 * d * c + 4 * options_.model.fusion_heads + 16) + 40 * shape.positions;
  if (images_) bytes.ends += shape.images * images_->hidden_width() * c;
  // For a moment: bags and projected pictures in float32 and the compute dtype, q|k|v and its gradient.
  bytes.transient_forward = std::max(bytes.transient_forward, rows * d * (2 * 4 + 4 * c));
  bytes.transient_backward = std::max(bytes.transient_backward, rows * d * (2 * 4 + 8 * c));
  return bytes;
}

at::Tensor LateFusionEncoder::forward(const PackedBatch& batch, const PassContext& context,
                                      std::unique_ptr<Saved>* saved) {
  std::unique_ptr<Activations> kept;
  if (saved != nullptr) kept = std::make_unique<Activations>();
  if (batch.n_sequences() == 0) {  // a rank without rows
    at::Tensor h = text_->forward(batch, context, kept ? &kept->text : nullptr);
    if (kept) *saved = std::move(kept);
    return h;
  }
  VIXEN_CHECK(batch.n_images() == 0 || images_ != nullptr, "pictures in a batch of an encoder without image adapter");
  Parts parts = take_apart(batch);
  const at::Tensor text = text_->forward(parts.text, context, kept ? &kept->text : nullptr);
  at::Tensor x = at::empty({text.size(0) + batch.n_images(), width()}, text.options());
  x.index_copy_(0, parts.text_rows, text);
  if (batch.n_images() > 0)
    x.index_copy_(0, parts.image_rows, images_->forward(batch.image_embeddings, kept ? &kept->images : nullptr));
  const at::Tensor y = block_->forward(x.to(store_->compute_dtype()), parts.bags, kept ? &kept->block : nullptr);
  at::Tensor h = y.index_select(0, parts.text_rows).to(at::kFloat);
  if (kept) {
    kept->parts = std::move(parts);
    *saved = std::move(kept);
  }
  return h;
}

void LateFusionEncoder::backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context,
                                 Saved& saved, const std::function<void(int, int)>& on_ready) {
  auto& kept = dynamic_cast<Activations&>(saved);
  const auto announce = [&] {
    if (!on_ready) return;
    const int block = block_->parameters().qkv.weight;
    on_ready(block, block + kTorchLayerParameters);
    if (images_) on_ready(images_->first_parameter(), images_->last_parameter());
  };
  if (batch.n_sequences() == 0) {
    announce();
    return text_->backward(grad_h, batch, context, *kept.text, on_ready);
  }
  const Parts& parts = kept.parts;
  VIXEN_CHECK(parts.text_rows.defined() && parts.text_rows.size(0) == grad_h.size(0),
              "the activations are of another pass");
  at::Tensor grad_y =
      at::zeros({grad_h.size(0) + batch.n_images(), width()}, grad_h.options().dtype(store_->compute_dtype()));
  grad_y.index_copy_(0, parts.text_rows, grad_h.to(grad_y.scalar_type()));
  const at::Tensor grad_x = block_->backward(grad_y, parts.bags, kept.block);
  grad_y.reset();
  if (batch.n_images() > 0)
    images_->backward(grad_x.index_select(0, parts.image_rows).to(at::kFloat), batch.image_embeddings, kept.images);
  announce();
  text_->backward(grad_x.index_select(0, parts.text_rows).to(at::kFloat), parts.text, context, *kept.text, on_ready);
}

void LateFusionEncoder::save_fusion(const std::filesystem::path& folder) const {
  make_folder(folder);
  std::map<std::string, at::Tensor> tensors;
  const int first = block_->parameters().qkv.weight;
  for (int i = first; i < first + kTorchLayerParameters; ++i)
    tensors[store_->info(i).name] = store_->value(i).to(at::kFloat);
  write_safetensors(folder / kFusionFile, tensors, {{"format", "pt"}});
  if (images_) images_->save(folder);
}

// The text encoder last: it writes the file by which a folder is known to be whole.
void LateFusionEncoder::save(const std::filesystem::path& folder) const {
  save_fusion(folder);
  text_->save(folder);
}

void LateFusionEncoder::save_merged(const std::filesystem::path& folder, at::ScalarType dtype,
                                    int64_t max_shard_bytes) const {
  save_fusion(folder);
  text_->save_merged(folder, dtype, max_shard_bytes);
}

}  // namespace vixen
