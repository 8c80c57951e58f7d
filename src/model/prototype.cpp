#include "model/prototype.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "kernels/pooling.hpp"
#include "model/torch_encoder_layer.hpp"

namespace vixen {
namespace {

// Sites of the encoder's layers count up from 1 (bert_backbone.cpp): these never meet them.
constexpr uint32_t kFirstSite = 60000;
constexpr int64_t kPositions = 3;  // u, f, c

}  // namespace

struct PrototypeNetwork::Impl {
  ParameterStore* store;
  int64_t width;
  TransformerLayer layer;

  // [u, f, c] of b labels as b packed sequences of three positions.
  PackedLayout layout(int64_t labels, const at::Tensor& sequence_keys, const PassContext& context) const {
    const auto begins = [&](const at::Device device) {
      return at::arange(0, kPositions * labels + 1, kPositions, at::dtype(at::kInt).device(device));
    };
    return packed_layout(begins(sequence_keys.device()), begins(at::kCPU), sequence_keys, kPositions, context,
                         /*has_dropout=*/true);
  }
};

namespace {

TransformerLayerOptions layer_options(const PrototypeConfig& config, int64_t width) {
  return {.width = width,
          .heads = config.heads,
          .feed_forward = config.feed_forward,
          .norm_eps = kTorchNormEps,
          .out_dropout = config.dropout,
          .hidden_dropout = config.dropout,
          .attention_dropout = config.dropout,
          .activation_dropout = config.dropout,
          .first_site = kFirstSite};
}

TransformerLayer register_layer(const PrototypeConfig& config, int64_t width, ParameterStore& store) {
  if (config.heads < 1 || width % config.heads != 0)
    fail_user("prototype.heads: {} found, expected a divisor of the encoder's width {}", config.heads, width);
  if (config.feed_forward < 1) fail_user("prototype.feed_forward: {} found, expected at least 1", config.feed_forward);
  // [official]: the norms' weights decay too.
  const auto parameters = register_torch_layer(
      "prototype.", width, config.feed_forward,
      {ParameterGroup::kPrototype, ParameterGroup::kPrototype, ParameterGroup::kPrototypeNoDecay}, store);
  return TransformerLayer(store, layer_options(config, width), parameters);
}

}  // namespace

PrototypeNetwork::PrototypeNetwork(const PrototypeConfig& config, int64_t width, ParameterStore& store)
    : impl_(new Impl{&store, width, register_layer(config, width, store)}) {}

PrototypeNetwork::~PrototypeNetwork() = default;

int PrototypeNetwork::first_parameter() const {
  return impl_->layer.parameters().qkv.weight;
}

int PrototypeNetwork::last_parameter() const {
  return impl_->layer.parameters().norm2_bias + 1;
}

void PrototypeNetwork::initialise(uint64_t seed) {
  initialise_torch_layer(impl_->layer.parameters(), seed, *impl_->store);
  impl_->store->refresh_compute();
}

at::Tensor PrototypeNetwork::forward(const at::Tensor& u, const at::Tensor& f, const at::Tensor& c,
                                     const at::Tensor& sequence_keys, const PassContext& context,
                                     std::unique_ptr<Saved>* saved) {
  VIXEN_CHECK(u.dim() == 2 && u.size(1) == impl_->width && f.sizes() == u.sizes() && c.sizes() == u.sizes(),
              "shapes of u, f, c: {} x {}, width {}", u.size(0), u.size(-1), impl_->width);
  const PackedLayout layout = impl_->layout(u.size(0), sequence_keys, context);
  const at::Tensor x =
      at::stack({u, f, c}, 1).view({kPositions * u.size(0), impl_->width}).to(impl_->store->compute_dtype());
  if (saved == nullptr) return mean_pool(impl_->layer.forward(x, layout, nullptr), layout.cu_seqlens);
  *saved = std::make_unique<Saved>();
  (*saved)->layout = layout;
  return mean_pool(impl_->layer.forward(x, layout, &(*saved)->layer), layout.cu_seqlens);
}

PrototypeNetwork::Gradient PrototypeNetwork::backward(const at::Tensor& grad_z, const PassContext&, Saved& saved) {
  const int64_t labels = grad_z.size(0);
  const at::Tensor grad_y =
      mean_pool_backward(grad_z, saved.layout.cu_seqlens, kPositions * labels, impl_->store->compute_dtype());
  const at::Tensor grad_x =
      impl_->layer.backward(grad_y, saved.layout, saved.layer).view({labels, kPositions, impl_->width});
  return {.u = grad_x.select(1, 0).to(at::kFloat).contiguous(), .f = grad_x.select(1, 1).to(at::kFloat).contiguous()};
}

// Counted in TransformerLayer over the three positions of each label.
PrototypeNetwork::Bytes PrototypeNetwork::bytes(const PrototypeConfig& config, int64_t width, int64_t rows,
                                                at::ScalarType dtype, bool cpu) {
  const int64_t positions = kPositions * rows, f = config.feed_forward;
  const auto element = static_cast<int64_t>(at::elementSize(dtype));
  Bytes bytes{positions * (8 * width + 2 * f) * element, positions * (5 * width + 2 * f) * element};
  if (cpu) return bytes;
  const auto layer = TransformerLayer::bytes(layer_options(config, width),
                                             {.positions = positions,
                                              .sequences = rows,
                                              .images = 0,
                                              .sum_squared_lengths = kPositions * positions,
                                              .longest = kPositions},
                                             dtype, KernelMoments(cpu, dtype));
  bytes.kept = layer.kept + token_key_bytes(positions) + (positions + 2 * rows) * 8;
  bytes.moment = layer.transient_backward;
  return bytes;
}

double PrototypeNetwork::forward_flops(const PrototypeConfig& config, int64_t width, double rows) {
  const auto d = static_cast<double>(width);
  return 2 * 3 * rows * (4 * d * d + 2 * d * static_cast<double>(config.feed_forward));
}

}  // namespace vixen
