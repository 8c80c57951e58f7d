// AdamW over runs of the flat buffers.
#include "train/optimiser.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "kernels/adamw.hpp"

namespace vixen {
namespace {

/// Of a group, before the schedule's factor.
AdamwRate rate_of(ParameterGroup group, const TrainConfig& config) {
  const auto rate = [&](double lr, double weight_decay) {
    return AdamwRate{.lr = lr,
                     .weight_decay = weight_decay,
                     .beta1 = config.adam_beta1,
                     .beta2 = config.adam_beta2,
                     .eps = config.adam_eps};
  };
  switch (group) {
    case ParameterGroup::kBackbone:
      return rate(config.lr, config.weight_decay);
    case ParameterGroup::kBackboneNoDecay:
      return rate(config.lr, 0);
    case ParameterGroup::kPrototype:
      return rate(config.prototype_lr, config.weight_decay);
    case ParameterGroup::kPrototypeNoDecay:
      return rate(config.prototype_lr, 0);
    case ParameterGroup::kImage:
      return rate(config.image_lr, config.weight_decay);
    case ParameterGroup::kImageNoDecay:
      return rate(config.image_lr, 0);
    case ParameterGroup::kFrozen:
      break;  // has no place in the buffers
  }
  VIXEN_CHECK(false, "parameter group {}", static_cast<int>(group));
  return {};
}

}  // namespace

double lr_factor(int64_t step, int64_t warmup_steps, int64_t total_steps) {
  if (step < warmup_steps) return static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup_steps));
  const auto left = static_cast<double>(total_steps - step);
  return std::max(0.0, left / static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps)));
}

AdamW::AdamW(const TrainConfig& config, ParameterStore& store, at::Tensor table)
    : config_(config), store_(&store), table_(std::move(table)) {
  exp_avg_ = at::zeros_like(store.flat_values());
  exp_avg_sq_ = at::zeros_like(store.flat_values());
  if (table_.defined()) {
    table_exp_avg_ = at::zeros_like(table_);
    table_exp_avg_sq_ = at::zeros_like(table_);
  }
}

void AdamW::step(double factor, const at::Tensor& table_grad, const at::Tensor& grad_scale) {
  ++steps_;
  const auto step_tensor = at::full({}, static_cast<double>(steps_), store_->flat_values().options().dtype(at::kFloat));
  // Neighbours of one group are one run of the flat buffers: few, long kernels.
  // Frozen ones lie nowhere in the buffers: they do not break a run.
  for (int first = 0; first < store_->count();) {
    const ParameterGroup group = store_->info(first).group;
    int last = first + 1;
    while (last < store_->count() && (store_->info(last).group == group || !store_->trained(last))) ++last;
    const int64_t begin = store_->info(first).offset;
    const int64_t length = store_->info(last - 1).offset + store_->info(last - 1).size - begin;
    first = last;
    if (group == ParameterGroup::kFrozen || length == 0) continue;
    auto rate = rate_of(group, config_);
    rate.lr *= factor;
    adamw_update(store_->flat_values().narrow(0, begin, length), store_->flat_grads().narrow(0, begin, length),
                 exp_avg_.narrow(0, begin, length), exp_avg_sq_.narrow(0, begin, length), rate, step_tensor, steps_,
                 grad_scale);
  }
  if (table_.defined() && table_.numel() > 0) {
    auto rate = rate_of(ParameterGroup::kPrototypeNoDecay, config_);
    rate.lr *= factor;
    adamw_update(table_, table_grad, table_exp_avg_, table_exp_avg_sq_, rate, step_tensor, steps_, grad_scale);
  }
  store_->refresh_compute();
}

}  // namespace vixen
