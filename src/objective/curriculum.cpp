#include "objective/curriculum.hpp"

#include <algorithm>
#include <cmath>

namespace vixen {
namespace {

// from at 0, to at 1.
double between(double from, double to, double share) {
  return std::exp((1 - share) * std::log(from) + share * std::log(to));
}

}  // namespace

LossConfig loss_at(const LossConfig& config, int64_t step) {
  LossConfig now = config;
  if (step >= config.soft_steps) return now;
  const double share = static_cast<double>(step) / static_cast<double>(config.soft_steps);
  now.negatives =
      std::llround(between(static_cast<double>(config.soft_negatives), static_cast<double>(config.negatives), share));
  now.temperature = between(config.soft_temperature, config.temperature, share);
  return now;
}

LossConfig widest_loss(const LossConfig& config) {
  LossConfig widest = config;
  if (config.soft_steps > 0) widest.negatives = std::max(config.negatives, config.soft_negatives);
  return widest;
}

}  // namespace vixen
