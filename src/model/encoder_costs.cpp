#include "model/encoder_costs.hpp"

#include <algorithm>

namespace vixen {
namespace {

// Multiply-adds a position of W, and of the adapter beside it.
double weight_products(const ParameterStore& store, const AdaptedLinear& linear) {
  return static_cast<double>(store.info(linear.weight).elements());
}
double adapter_products(const ParameterStore& store, const AdaptedLinear& linear) {
  return static_cast<double>(lora_products(store, linear));
}

}  // namespace

double EncoderCosts::attention_flops(int64_t positions, int64_t sum_squared_lengths) const {
  return static_cast<double>(backbone_->traits().layers) * backbone_->attention_flops(positions, sum_squared_lengths);
}

// Late fusion counts pictures as positions of the backbone: more than what they cost in its block.
double EncoderCosts::forward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  double products = 0;
  for (const AdaptedLinear* linear : backbone_->linears())
    products += weight_products(*store_, *linear) + adapter_products(*store_, *linear);
  return 2 * static_cast<double>(positions) * products + attention_flops(positions, sum_squared_lengths);
}

double EncoderCosts::backward_flops(int64_t positions, int64_t sum_squared_lengths) const {
  const auto linears = backbone_->linears();
  double products = 0;
  for (const AdaptedLinear* linear : linears) {
    const double weights = weight_products(*store_, *linear);
    products += weights;                                       // gradient of the input
    if (store_->trained(linear->weight)) products += weights;  // and of the weight
    products += 2 * adapter_products(*store_, *linear);
  }
  // Nothing below the first projection asks for its input's gradient.
  if (!store_->trained(backbone_->ranges().embeddings.first) && images_ == nullptr)
    products -= weight_products(*store_, *linears.front());
  return 2 * static_cast<double>(positions) * products + 2 * attention_flops(positions, sum_squared_lengths);
}

ActivationBytes EncoderCosts::activation_bytes(const BatchShape& shape, bool cpu) const {
  const KernelMoments moments(cpu, compute_dtype(options_->model));
  BatchShape text = shape;
  if (late_ != nullptr) {
    text.positions -= shape.images;
    text.images = 0;
  }
  const LayerBytes layer = backbone_->layer_bytes(text, moments);
  ActivationBytes bytes{.kept_a_layer = layer.kept,
                        .recomputed_a_layer = layer.recomputed,
                        .ends = backbone_->end_bytes(text),
                        .transient_forward = layer.transient_forward,
                        .transient_backward = layer.transient_backward};
  if (images_ != nullptr) bytes.ends += images_->kept_bytes(text.images, compute_dtype(options_->model));
  if (late_ != nullptr) {
    const LayerBytes late = late_->bytes(shape, moments);
    bytes.ends += late.kept;
    bytes.transient_forward = std::max(bytes.transient_forward, late.transient_forward);
    bytes.transient_backward = std::max(bytes.transient_backward, late.transient_backward);
  }
  return bytes;
}

PassTraffic EncoderCosts::traffic(const BatchShape& shape, bool cpu, bool training) const {
  const KernelTraffic kernels(cpu, compute_dtype(options_->model));
  const int64_t layers = backbone_->traits().layers;
  const LayerTraffic layer = backbone_->layer_traffic(shape, kernels, training);
  const LayerTraffic ends = backbone_->end_traffic(shape, kernels, training);
  return {.forward = layers * layer.forward + ends.forward,
          .backward = layers * layer.backward + ends.backward,
          .again_a_layer = layer.again,
          .core_flops_a_layer =
              layer.attention_on_cores ? backbone_->attention_flops(shape.positions, shape.sum_squared_lengths) : 0};
}

}  // namespace vixen
