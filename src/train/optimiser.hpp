// AdamW over the flat parameters by group, and over the local shard of the free vectors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

#include "config/config.hpp"
#include "model/parameters.hpp"

namespace vixen {

/// Linear warm-up over warmup_steps, then linear to 0 at total_steps (transformers' get_linear_schedule_with_warmup):
/// the factor of step 0-based `step`.
double lr_factor(int64_t step, int64_t warmup_steps, int64_t total_steps);

class AdamW {
 public:
  /// Moments for the store's parameters and, when defined, for `table` (free vectors: prototype_lr, no decay).
  AdamW(const TrainConfig& config, ParameterStore& store, at::Tensor table);

  /// One update with the gradients in the store (and table_grad, zeroed by the caller afterwards). factor: lr_factor;
  /// grad_scale: gradients are multiplied by it (clipping), a device scalar or undefined. torch.optim.AdamW's
  /// arithmetic.
  void step(double factor, const at::Tensor& table_grad, const at::Tensor& grad_scale);

  int64_t steps_done() const { return steps_; }
  void set_steps_done(int64_t steps) { steps_ = steps; }
  at::Tensor& exp_avg() { return exp_avg_; }  // flat, as the store
  at::Tensor& exp_avg_sq() { return exp_avg_sq_; }
  at::Tensor& table_exp_avg() { return table_exp_avg_; }
  at::Tensor& table_exp_avg_sq() { return table_exp_avg_sq_; }

 private:
  TrainConfig config_;
  ParameterStore* store_;
  at::Tensor table_;
  at::Tensor exp_avg_, exp_avg_sq_, table_exp_avg_, table_exp_avg_sq_;
  int64_t steps_ = 0;
};

}  // namespace vixen
