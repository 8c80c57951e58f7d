#include "objective/curriculum.hpp"

#include <algorithm>
#include <cmath>

namespace vixen {
namespace {

// from at 0, to at 1.
double between(double from, double to, double share) {
  return std::exp((1 - share) * std::log(from) + share * std::log(to));
}

int64_t soft_negatives(const LossConfig& config, int64_t columns) {
  return config.soft_negatives > 0 ? config.soft_negatives : columns;
}

}  // namespace

LossConfig loss_at(const LossConfig& config, int64_t step, int64_t columns) {
  LossConfig now = config;
  if (step >= config.soft_steps) return now;
  const double share = static_cast<double>(step) / static_cast<double>(config.soft_steps);
  now.negatives = std::llround(
      between(static_cast<double>(soft_negatives(config, columns)), static_cast<double>(config.negatives), share));
  now.temperature = between(config.soft_temperature, config.temperature, share);
  return now;
}

LossConfig widest_loss(const LossConfig& config, int64_t columns) {
  LossConfig widest = config;
  if (config.soft_steps > 0) widest.negatives = std::max(config.negatives, soft_negatives(config, columns));
  return widest;
}

}  // namespace vixen
