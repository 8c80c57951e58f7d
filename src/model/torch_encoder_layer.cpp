#include "model/torch_encoder_layer.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.hpp"
#include "model/initialise.hpp"

namespace vixen {

TransformerLayerParameters register_torch_layer(const std::string& prefix, int64_t width, int64_t feed_forward,
                                                const TorchLayerGroups& groups, ParameterStore& store) {
  const int64_t d = width, f = feed_forward;
  const int first = store.count();
  TransformerLayerParameters p;
  p.qkv.weight = store.add(prefix + "self_attn.in_proj_weight", {3 * d, d}, groups.matrix);
  p.qkv.bias = store.add(prefix + "self_attn.in_proj_bias", {3 * d}, groups.bias);
  p.out.weight = store.add(prefix + "self_attn.out_proj.weight", {d, d}, groups.matrix);
  p.out.bias = store.add(prefix + "self_attn.out_proj.bias", {d}, groups.bias);
  p.norm1_weight = store.add(prefix + "norm1.weight", {d}, groups.norm);
  p.norm1_bias = store.add(prefix + "norm1.bias", {d}, groups.bias);
  p.ff1.weight = store.add(prefix + "linear1.weight", {f, d}, groups.matrix);
  p.ff1.bias = store.add(prefix + "linear1.bias", {f}, groups.bias);
  p.ff2.weight = store.add(prefix + "linear2.weight", {d, f}, groups.matrix);
  p.ff2.bias = store.add(prefix + "linear2.bias", {d}, groups.bias);
  p.norm2_weight = store.add(prefix + "norm2.weight", {d}, groups.norm);
  p.norm2_bias = store.add(prefix + "norm2.bias", {d}, groups.bias);
  VIXEN_CHECK(store.count() - first == kTorchLayerParameters, "{} parameters", store.count() - first);
  return p;
}

void initialise_torch_layer(const TransformerLayerParameters& p, uint64_t seed, ParameterStore& store) {
  const auto& shape = store.info(p.ff1.weight).shape;
  const double d = static_cast<double>(shape.at(1)), f = static_cast<double>(shape.at(0));
  fill_uniform(store, p.qkv.weight, std::sqrt(6.0 / (d + 3 * d)), seed);
  fill_uniform(store, p.out.weight, 1 / std::sqrt(d), seed);
  fill_uniform(store, p.ff1.weight, 1 / std::sqrt(d), seed);
  fill_uniform(store, p.ff1.bias, 1 / std::sqrt(d), seed);
  fill_uniform(store, p.ff2.weight, 1 / std::sqrt(f), seed);
  fill_uniform(store, p.ff2.bias, 1 / std::sqrt(f), seed);
  const auto fill = [&](int parameter, double value, at::ScalarType frozen_dtype) {
    set_parameter(store, parameter, at::full(store.info(parameter).shape, value, at::kFloat), frozen_dtype);
  };
  for (const int bias : {p.qkv.bias, p.out.bias}) fill(bias, 0, store.compute_dtype());
  for (const int bias : {p.norm1_bias, p.norm2_bias}) fill(bias, 0, at::kFloat);
  for (const int weight : {p.norm1_weight, p.norm2_weight}) fill(weight, 1, at::kFloat);
}

}  // namespace vixen
