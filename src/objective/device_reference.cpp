// Row losses over hard negatives, and their explicit gradients, in ATen operations.
#include <ATen/ATen.h>

#include <algorithm>

#include "objective/device_kernels.hpp"

namespace vixen {

at::Tensor hinge_slope(const at::Tensor& x, TieGradient tie) {
  auto slope = (x > 0).to(x.scalar_type());
  // One half at 0, as torch.max of two tensors gives.
  if (tie == TieGradient::kHalf) slope = slope + 0.5 * (x == 0).to(x.scalar_type());
  return slope;
}

namespace reference {

Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& mask, int64_t k) {
  k = std::min<int64_t>(k, scores.size(1));
  // A rank may own no rows: top-k is not asked, whose kernel on a GPU would be launched over nothing.
  if (scores.size(0) == 0)
    return {at::empty({0, k}, mask.options().dtype(at::kLong)), at::empty({0, k}, mask.options())};
  const auto masked = scores.masked_fill(mask, kMasked);
  auto [values, columns] = masked.topk(k, /*dim=*/1, /*largest=*/true, /*sorted=*/true);
  return {columns, values > kMasked / 2};
}

RowLosses row_losses(const at::Tensor& scores, const at::Tensor& mask, const at::Tensor& positive, bool has_gaps,
                     const LossConfig& config) {
  const auto columns = (has_gaps ? positive.clamp_min(0) : positive).unsqueeze(1);
  const auto s_p = scores.gather(1, columns);  // [R, 1]
  auto negatives = hardest_negatives(scores, mask, config.negatives);
  if (has_gaps) negatives.valid = negatives.valid.logical_and((positive >= 0).unsqueeze(1));
  const auto s_n = scores.gather(1, negatives.columns);  // [R, K]
  const auto valid = negatives.valid.to(scores.scalar_type());

  const auto margin = (s_p - s_n).abs().clamp(config.margin_min, config.margin_max);
  const auto violation = s_n - s_p + margin;
  const auto slot_loss = violation.clamp_min(0) * valid;
  const auto active = slot_loss > 0;

  // Satisfied slots are pushed out of the softmax together; where all are, the weights are uniform over the valid ones.
  auto logits = at::where(active, s_n, at::full_like(s_n, -50.0)) / config.temperature;
  logits = logits.masked_fill(negatives.valid.logical_not(), kMasked);
  const auto weights = at::softmax(logits, 1) * valid;
  const auto values = (weights * slot_loss).sum(1, /*keepdim=*/true);  // [R, 1]

  const auto direct = weights * hinge_slope(violation, config.tie_gradient) * valid;
  const auto through_weights = weights * (slot_loss - values) / config.temperature * active.to(scores.scalar_type());
  return {negatives.columns, direct + through_weights, -direct.sum(1, true), values};
}

}  // namespace reference
}  // namespace vixen
