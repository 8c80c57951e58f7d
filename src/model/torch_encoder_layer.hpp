// The parameters of a torch.nn.TransformerEncoderLayer (post-norm, GELU) as a TransformerLayer: names and initial
// values. The label prototypes' network and late fusion's block are such layers.
//   D width, F feed-forward width
#pragma once

#include <cstdint>
#include <string>

#include "model/parameters.hpp"
#include "model/transformer_layer.hpp"

namespace vixen {

constexpr double kTorchNormEps = 1e-5;  // torch.nn.TransformerEncoderLayer's default
constexpr int kTorchLayerParameters = 12;

/// Matrices, norm weights, and biases (norms' included).
struct TorchLayerGroups {
  ParameterGroup matrix, norm, bias;
};

/// Registers "<prefix>self_attn.in_proj_weight" [3D, D] and the others, in torch's order: consecutive indices from
/// qkv.weight to norm2_bias.
TransformerLayerParameters register_torch_layer(const std::string& prefix, int64_t width, int64_t feed_forward,
                                                const TorchLayerGroups& groups, ParameterStore& store);

/// As torch initialises it: Xavier-uniform in_proj, Linear's defaults elsewhere, in_proj and out_proj biases 0, norms 1
/// and 0. Keyed by seed; does not refresh the compute copies.
void initialise_torch_layer(const TransformerLayerParameters& parameters, uint64_t seed, ParameterStore& store);

}  // namespace vixen
