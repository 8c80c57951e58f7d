#include "objective/device_kernels.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "kernels/device_form.hpp"

namespace vixen {
namespace {

const ObjectiveTable* lent = nullptr;

DeviceTables<ObjectiveTable> tables() {
  return {KernelFamily::kObjective, cuda_objective_kernels(), lent};
}

// Whether the kernels take these: float32, K within their room.
bool takes(const at::Tensor& scores, const at::Tensor& mask, int64_t k) {
  return scores.scalar_type() == at::kFloat && scores.is_contiguous() && mask.is_contiguous() && k <= kMostNegatives &&
         scores.size(1) < std::numeric_limits<int32_t>::max();
}

HardestArgs arguments_of(const at::Tensor& scores, const at::Tensor& mask, const at::Tensor& columns) {
  VIXEN_CHECK(mask.sizes() == scores.sizes() && mask.scalar_type() == at::kBool, "a mask of {} scores", scores.numel());
  return {.width = scores.size(1),
          .k = columns.size(1),
          .masked = static_cast<float>(kMasked),
          .scores = scores.const_data_ptr<float>(),
          .mask = mask.const_data_ptr<bool>(),
          .columns = columns.mutable_data_ptr<int64_t>(),
          .valid = nullptr};
}

}  // namespace

Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& mask, int64_t k) {
  const int64_t rows = scores.size(0), most = std::min<int64_t>(k, scores.size(1));
  const DeviceForm<HardestArgs> kernel(tables(), "hardest_negatives", &ObjectiveTable::hardest_negatives,
                                       scores.device(), takes(scores, mask, most));
  if (!kernel) return reference::hardest_negatives(scores, mask, k);
  Negatives found{at::empty({rows, most}, mask.options().dtype(at::kLong)), at::empty({rows, most}, mask.options())};
  HardestArgs args = arguments_of(scores, mask, found.columns);
  args.valid = found.valid.mutable_data_ptr<bool>();
  kernel.run(args, rows);
  return found;
}

RowLosses row_losses(const at::Tensor& scores, const at::Tensor& mask, const at::Tensor& positive, bool has_gaps,
                     const LossConfig& config) {
  const int64_t rows = scores.size(0), k = std::min<int64_t>(config.negatives, scores.size(1));
  const DeviceForm<RowLossArgs> kernel(tables(), "row_losses", &ObjectiveTable::row_losses, scores.device(),
                                       takes(scores, mask, k));
  if (!kernel) return reference::row_losses(scores, mask, positive, has_gaps, config);
  const at::Tensor own = positive.contiguous();
  RowLosses found{at::empty({rows, k}, own.options()), at::empty({rows, k}, scores.options()),
                  at::empty({rows, 1}, scores.options()), at::empty({rows, 1}, scores.options())};
  kernel.run({.hardest = arguments_of(scores, mask, found.columns),
              .positive = own.const_data_ptr<int64_t>(),
              .margin_min = static_cast<float>(config.margin_min),
              .margin_max = static_cast<float>(config.margin_max),
              .temperature = static_cast<float>(config.temperature),
              .tie = config.tie_gradient == TieGradient::kHalf ? 0.5f : 0.0f,
              .slopes = found.slopes.mutable_data_ptr<float>(),
              .positive_slope = found.positive_slope.mutable_data_ptr<float>(),
              .values = found.values.mutable_data_ptr<float>()},
             rows);
  return found;
}

void add_entries(at::Tensor target, const at::Tensor& columns, const at::Tensor& values) {
  VIXEN_CHECK(target.dim() == 2 && columns.sizes() == values.sizes() && columns.size(0) == target.size(0),
              "{} entries of {} rows", columns.numel(), target.size(0));
  const DeviceForm<AddEntriesArgs> kernel(tables(), "add_entries", &ObjectiveTable::add_entries, target.device(),
                                          target.scalar_type() == at::kFloat);
  if (!kernel) {
    target.scatter_add_(1, columns, values);
    return;
  }
  const at::Tensor dense_columns = columns.contiguous(), dense_values = values.contiguous();
  kernel.run({.k = columns.size(1),
              .row_stride = target.stride(0),
              .column_stride = target.stride(1),
              .columns = dense_columns.const_data_ptr<int64_t>(),
              .values = dense_values.const_data_ptr<float>(),
              .target = target.mutable_data_ptr<float>()},
             target.size(0));
}

bool objective_is_fused(const LossConfig& config) {
  return kernel_choice(KernelFamily::kObjective) != KernelChoice::kReference && config.negatives <= kMostNegatives;
}

void lend_objective_kernels(const ObjectiveTable* table) {
  lent = table;
}

}  // namespace vixen
