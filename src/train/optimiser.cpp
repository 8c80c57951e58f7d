// AdamW: torch's fused kernel over runs of the flat buffers, or the readable reference.
#include "train/optimiser.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.hpp"
#include "kernels/choice.hpp"

namespace vixen {
namespace {

struct GroupRate {
  double lr = 0, weight_decay = 0;
};

GroupRate rate_of(ParameterGroup group, const TrainConfig& config) {
  switch (group) {
    case ParameterGroup::kBackbone:
      return {config.lr, config.weight_decay};
    case ParameterGroup::kBackboneNoDecay:
      return {config.lr, 0};
    case ParameterGroup::kPrototype:
      return {config.prototype_lr, config.weight_decay};
    case ParameterGroup::kPrototypeNoDecay:
      return {config.prototype_lr, 0};
    case ParameterGroup::kImage:
      return {config.image_lr, config.weight_decay};
    case ParameterGroup::kImageNoDecay:
      return {config.image_lr, 0};
    case ParameterGroup::kFrozen:
      break;  // has no place in the buffers
  }
  VIXEN_CHECK(false, "parameter group {}", static_cast<int>(group));
  return {};
}

// One tensor, one rate; step counts from 1. The order of operations is torch.optim.AdamW's.
void update_reference(at::Tensor value, const at::Tensor& gradient, at::Tensor mean, at::Tensor square,
                      const GroupRate& rate, const TrainConfig& config, int64_t step) {
  value.mul_(1 - rate.lr * rate.weight_decay);
  mean.lerp_(gradient, 1 - config.adam_beta1);
  square.mul_(config.adam_beta2).addcmul_(gradient, gradient, 1 - config.adam_beta2);
  const double correction1 = 1 - std::pow(config.adam_beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(config.adam_beta2, static_cast<double>(step));
  const auto denominator = (square.sqrt() / std::sqrt(correction2)).add_(config.adam_eps);
  value.addcdiv_(mean, denominator, -rate.lr / correction1);
}

void update(at::Tensor value, const at::Tensor& gradient, at::Tensor mean, at::Tensor square, const GroupRate& rate,
            const TrainConfig& config, const at::Tensor& step_tensor, int64_t step, const at::Tensor& grad_scale) {
  if (kernel_choices().adamw == KernelChoice::kReference) {
    update_reference(value, grad_scale.defined() ? gradient * grad_scale : gradient, mean, square, rate, config, step);
    return;
  }
  // The fused kernel divides gradients by its scale.
  std::optional<at::Tensor> divisor;
  if (grad_scale.defined()) divisor = grad_scale.reciprocal();
  at::_fused_adamw_({value}, {gradient}, {mean}, {square}, {}, {step_tensor}, rate.lr, config.adam_beta1,
                    config.adam_beta2, rate.weight_decay, config.adam_eps, /*amsgrad=*/false, /*maximize=*/false,
                    divisor, {});
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
    update(store_->flat_values().narrow(0, begin, length), store_->flat_grads().narrow(0, begin, length),
           exp_avg_.narrow(0, begin, length), exp_avg_sq_.narrow(0, begin, length), rate, config_, step_tensor, steps_,
           grad_scale);
  }
  if (table_.defined() && table_.numel() > 0)
    update(table_, table_grad, table_exp_avg_, table_exp_avg_sq_, {config_.prototype_lr * factor, 0}, config_,
           step_tensor, steps_, grad_scale);
  store_->refresh_compute();
}

}  // namespace vixen
