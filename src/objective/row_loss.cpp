// Row losses over hard negatives, and their explicit gradients.
#include "objective/row_loss.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.hpp"

namespace vixen {
namespace {

// Marks "no such negative" in a top-k: below any similarity, far from overflow.
constexpr double kMasked = -1e30;

}  // namespace

at::Tensor positive_mask(const ObjectiveInput& input) {
  VIXEN_CHECK(input.q.dim() == 2 && input.u.dim() == 2 && input.u.size(1) == input.q.size(1) &&
                  input.u.size(0) >= input.q.size(0) && input.positives.dim() == 2 && input.positives.size(0) == 2,
              "q [{}], u [{}], positives [{}]: expected [B, D], [M >= B, D], [2, P]", fmt::join(input.q.sizes(), ", "),
              fmt::join(input.u.sizes(), ", "), input.positives.sizes());
  auto mask = at::zeros({input.q.size(0), input.u.size(0)}, input.q.options().dtype(at::kBool));
  return mask.index_put_({input.positives.select(0, 0), input.positives.select(0, 1)}, at::ones({}, mask.options()));
}

at::Tensor diagonal_positives(int64_t rows, int64_t columns, const at::TensorOptions& options) {
  auto positive = at::arange(rows, options.dtype(at::kLong));
  return rows <= columns ? positive : positive.masked_fill(positive >= columns, -1);
}

at::Tensor hinge_slope(const at::Tensor& x, TieGradient tie) {
  auto slope = (x > 0).to(x.scalar_type());
  // One half at 0, as torch.max of two tensors gives.
  if (tie == TieGradient::kHalf) slope = slope + 0.5 * (x == 0).to(x.scalar_type());
  return slope;
}

Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& mask, int64_t k) {
  const auto masked = scores.masked_fill(mask, kMasked);
  auto [values, columns] =
      masked.topk(std::min<int64_t>(k, scores.size(1)), /*dim=*/1, /*largest=*/true, /*sorted=*/true);
  return {columns, values > kMasked / 2};
}

RowLoss row_loss(const at::Tensor& scores, const at::Tensor& mask, const at::Tensor& positive, bool has_gaps,
                 const LossConfig& config) {
  const auto positive_column = (has_gaps ? positive.clamp_min(0) : positive).unsqueeze(1);
  const auto s_p = scores.gather(1, positive_column);  // [R, 1]
  auto negatives = hardest_negatives(scores, mask, config.negatives);
  at::Tensor rows;  // [1]: how many count, where not all do
  if (has_gaps) {
    const auto counts = (positive >= 0).unsqueeze(1);
    negatives.valid = negatives.valid.logical_and(counts);
    rows = counts.sum(0).clamp_min(1).to(scores.scalar_type());
  }
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
  const auto value = (weights * slot_loss).sum(1, /*keepdim=*/true);  // [R, 1]

  const auto direct = weights * hinge_slope(violation, config.tie_gradient) * valid;
  const auto through_weights = weights * (slot_loss - value) / config.temperature * active.to(scores.scalar_type());
  const auto over_rows = [&](const at::Tensor& x) {
    return has_gaps ? x / rows : x / static_cast<double>(scores.size(0));
  };
  auto grad = at::zeros_like(scores);
  grad.scatter_(1, negatives.columns, over_rows(direct + through_weights));
  grad.scatter_add_(1, positive_column, over_rows(-direct.sum(1, true)));
  return {has_gaps ? (value.sum() / rows).squeeze(0) : value.mean(), grad};
}

ObjectiveResult result_of(const RowLoss& term, const ObjectiveInput& input) {
  ObjectiveResult result;
  result.loss = term.value;
  result.terms = {{"loss_u", term.value}};
  result.grad_q = term.grad.matmul(input.u);
  result.grad_u = term.grad.t().matmul(input.q);
  return result;
}

}  // namespace vixen
