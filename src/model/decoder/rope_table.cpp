// The angles of rotary position embeddings, as transformers' modeling_rope_utils computes them: float32 throughout, in
// its order of operations, so that the table is the same to the bit.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.hpp"
#include "model/decoder/decoder_config.hpp"

namespace vixen {
namespace {

// Llama 3: slow pairs are stretched by the factor, fast ones stay, those between are mixed.
at::Tensor llama3(const at::Tensor& inverse, const RopeScaling& scaling) {
  const double low = scaling.low_freq_factor, high = scaling.high_freq_factor;
  const auto original = static_cast<double>(scaling.original_positions);
  const at::Tensor wavelength = 2 * std::numbers::pi * at::reciprocal(inverse);
  const at::Tensor slow = wavelength > original / low;
  const at::Tensor stretched = at::where(slow, inverse / scaling.factor, inverse);
  const at::Tensor smooth = (original * at::reciprocal(wavelength) - low) / (high - low);
  const at::Tensor mixed = (1 - smooth) * stretched / scaling.factor + smooth * stretched;
  return at::where(at::logical_or(wavelength < original / high, slow), stretched, mixed);
}

// The pair that turns `rotations` times over the original positions.
double yarn_pair(double rotations, const DecoderConfig& config) {
  const auto positions = static_cast<double>(config.rope_scaling.original_positions);
  return static_cast<double>(config.head_dim) * std::log(positions / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(config.rope_theta));
}

// Yarn (arXiv 2309.00071): a ramp from the frequencies as they are to stretched ones.
at::Tensor yarn(const at::Tensor& frequencies, const DecoderConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  double low = yarn_pair(scaling.beta_fast, config), high = yarn_pair(scaling.beta_slow, config);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(config.head_dim - 1));
  if (low == high) high += 0.001;
  const at::Tensor pairs = at::arange(config.head_dim / 2, at::kFloat);
  const at::Tensor kept = 1 - ((pairs - low) / (high - low)).clamp(0, 1);
  return at::reciprocal(scaling.factor * frequencies) * (1 - kept) + at::reciprocal(frequencies) * kept;
}

}  // namespace

double yarn_attention_factor(double factor, double scale) {
  return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1;
}

at::Tensor rope_table(const DecoderConfig& config, int64_t positions) {
  VIXEN_CHECK(positions >= 0 && config.head_dim % 2 == 0, "{} positions of heads of {} columns", positions,
              config.head_dim);
  const RopeScaling& scaling = config.rope_scaling;
  const at::Tensor frequencies = at::pow(at::Scalar(config.rope_theta), at::arange(0, config.head_dim, 2, at::kFloat) /
                                                                            static_cast<double>(config.head_dim));
  at::Tensor inverse = at::reciprocal(frequencies);
  double factor = 1;
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone:
      break;
    case RopeScaling::Kind::kLinear:
      inverse = inverse / scaling.factor;
      break;
    case RopeScaling::Kind::kLlama3:
      inverse = llama3(inverse, scaling);
      break;
    case RopeScaling::Kind::kYarn:
      inverse = yarn(frequencies, config);
      factor = scaling.attention_factor > 0 ? scaling.attention_factor : yarn_attention_factor(scaling.factor, 1);
      break;
  }
  const at::Tensor angles = at::arange(positions, at::kFloat).unsqueeze(1) * inverse.unsqueeze(0);
  return at::cat({angles.cos() * factor, angles.sin() * factor}, 1);
}

}  // namespace vixen
