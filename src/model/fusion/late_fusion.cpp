#include "model/fusion/late_fusion.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <map>

#include "base/check.hpp"
#include "device/transfer.hpp"
#include "model/initialise.hpp"
#include "model/torch_encoder_layer.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

constexpr const char* kPrefix = "fusion.";

// Counts of each sequence -> int64 [n+1]: where each begins, and their sum.
at::Tensor offsets_of(const at::Tensor& counts) {
  return at::cat({at::zeros({1}, counts.options()), counts.cumsum(0)});
}

}  // namespace

// Lengths and counts are compared on the host, which has them: nothing waits for the device.
LateFusion::Parts take_apart(const PackedBatch& batch) {
  const int64_t n = batch.n_sequences(), pictures = batch.n_images(), tokens = batch.n_positions() - pictures;
  const at::Device device = batch.tokens.device();
  const auto longs = batch.tokens.options().dtype(at::kLong);
  const at::Tensor offsets = batch.offsets_on_host().to(at::kLong);
  // Pictures lie in the order of their sequences: those of a sequence are between its first position and the next's.
  const at::Tensor counts =
      pictures > 0 ? at::searchsorted(batch.images_on_host(), offsets).diff() : at::zeros({n}, at::kLong);
  const at::Tensor lengths = offsets.diff() - counts;  // of the texts

  LateFusion::Parts parts;
  const at::Tensor text_offsets = offsets_of(lengths), bag_offsets = offsets_of(counts + 1);
  parts.text.tokens = pictures > 0 ? batch.tokens.index_select(0, batch.text_positions) : batch.tokens;
  parts.text.text_positions = at::arange(tokens, longs);
  const at::Tensor there = to_device(text_offsets, device);
  parts.text.position_ids =
      parts.text.text_positions - at::repeat_interleave(there.narrow(0, 0, n), there.diff(), 0, tokens);
  parts.text.cu_seqlens = there.to(at::kInt);
  parts.text.host_cu_seqlens = text_offsets.to(at::kInt);
  parts.text.image_positions = at::empty({0}, longs);
  parts.text.sequence_keys = batch.sequence_keys;
  parts.text.max_seqlen = lengths.max().item<int64_t>();

  const at::Tensor bags = to_device(bag_offsets, device);
  const int64_t largest = 1 + counts.max().item<int64_t>();
  parts.bags = packed_layout(bags.to(at::kInt), bag_offsets.to(at::kInt), batch.sequence_keys, largest, {},
                             /*has_dropout=*/false);
  parts.text_rows = bags.narrow(0, 0, n);
  // Picture m has m pictures and 1 + its sequence's number of texts before it.
  if (pictures > 0)
    parts.image_rows =
        at::arange(1, pictures + 1, longs) + at::repeat_interleave(at::arange(n, longs), bags.diff() - 1, 0, pictures);
  return parts;
}

LateFusion::LateFusion(const EncoderOptions& options, int64_t width, ParameterStore& store)
    : store_(&store), width_(width) {
  const int64_t d = width;
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

ParameterRange LateFusion::block_parameters() const {
  const int first = block_->parameters().qkv.weight;
  return {first, first + kTorchLayerParameters};
}

ParameterRange LateFusion::image_parameters() const {
  return images_ ? images_->parameters() : ParameterRange{};
}

void LateFusion::load(const std::vector<std::filesystem::path>& folders, uint64_t seed) {
  if (images_) images_->load(folders, seed);
  for (const auto& folder : folders)
    if (std::filesystem::exists(folder / kFusionFile)) return load_block(folder / kFusionFile);
  initialise_torch_layer(block_->parameters(), seed, *store_);
}

void LateFusion::load_block(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto [first, last] = block_parameters();
  for (int i = first; i < last; ++i) {
    const ParameterInfo& info = store_->info(i);
    const at::Tensor value = file.tensor(info.name);
    if (value.sizes() != at::IntArrayRef(info.shape) || !value.is_floating_point())
      fail_user("{}: tensor {} is {} [{}], expected floats [{}] (backbone of width {})", path.string(), info.name,
                c10::toString(value.scalar_type()), fmt::join(value.sizes().vec(), ", "), fmt::join(info.shape, ", "),
                width_);
    const bool norm = info.name.find("norm") != std::string::npos;
    set_parameter(*store_, i, value, norm ? at::kFloat : store_->compute_dtype());
  }
}

void LateFusion::save(const std::filesystem::path& folder) const {
  std::map<std::string, at::Tensor> tensors;
  const auto [first, last] = block_parameters();
  for (int i = first; i < last; ++i) tensors[store_->info(i).name] = store_->value(i).to(at::kFloat);
  write_safetensors(folder / kFusionFile, tensors, {{"format", "pt"}});
  if (images_) images_->save(folder);
}

at::Tensor LateFusion::forward(const at::Tensor& text, const PackedBatch& batch, const Parts& parts,
                               Saved* saved) const {
  at::Tensor x = at::empty({text.size(0) + batch.n_images(), width_}, text.options());
  x.index_copy_(0, parts.text_rows, text);
  if (batch.n_images() > 0)
    x.index_copy_(0, parts.image_rows, images_->forward(batch.image_embeddings, saved ? &saved->images : nullptr));
  const at::Tensor y = block_->forward(x.to(store_->compute_dtype()), parts.bags, saved ? &saved->block : nullptr);
  return y.index_select(0, parts.text_rows).to(at::kFloat);
}

at::Tensor LateFusion::backward(const at::Tensor& grad_h, const PackedBatch& batch, const Parts& parts,
                                Saved& saved) const {
  VIXEN_CHECK(parts.text_rows.size(0) == grad_h.size(0), "the activations are of another pass");
  at::Tensor grad_y =
      at::zeros({grad_h.size(0) + batch.n_images(), width_}, grad_h.options().dtype(store_->compute_dtype()));
  grad_y.index_copy_(0, parts.text_rows, grad_h.to(grad_y.scalar_type()));
  const at::Tensor grad_x = block_->backward(grad_y, parts.bags, saved.block);
  grad_y.reset();
  if (batch.n_images() > 0)
    images_->backward(grad_x.index_select(0, parts.image_rows).to(at::kFloat), batch.image_embeddings, saved.images);
  return grad_x.index_select(0, parts.text_rows).to(at::kFloat);
}

LayerBytes LateFusion::bytes(const BatchShape& shape, const KernelMoments& moments) const {
  const int64_t c = store_->compute_dtype() == at::kFloat ? 4 : 2, d = width_;
  const int64_t rows = shape.sequences + shape.images;
  LayerBytes bytes;
  // Kept: TransformerLayer::Saved (8 D + 2 F with F = D, of which the context's sum and both norms' are D each), its
  // log-sum-exps and norm statistics; the mlp's hidden rows; index tensors of the parts (int64 a position).
  bytes.kept = rows * (10 * d * c + 4 * block_->options().heads + 16) + 40 * shape.positions;
  if (images_) bytes.kept += images_->kept_bytes(shape.images, store_->compute_dtype());
  // For a moment: bags and projected pictures in float32 and the compute dtype, q|k|v and its gradient.
  // The kernels of the block over bags as long as each other; none is longer than a text with its pictures.
  const auto& options = block_->options();
  const AttentionShape heads{.heads = options.heads, .max_seqlen = shape.longest};
  const int64_t mean = shape.sequences == 0 ? 0 : (rows + shape.sequences - 1) / shape.sequences;
  const int64_t norm = moments.norm(rows, d, false), head_dim = d / options.heads;
  bytes.transient_forward =
      rows * d * (2 * 4 + 4 * c) + std::max(norm, moments.attention(rows, rows * mean, head_dim, heads, false));
  bytes.transient_backward =
      rows * d * (2 * 4 + 8 * c) + std::max(moments.norm_backward(rows, d, false),
                                            moments.attention_backward(rows, rows * mean, head_dim, heads, false));
  return bytes;
}

}  // namespace vixen
