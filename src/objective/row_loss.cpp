// Row losses over hard negatives, and their explicit gradients.
#include "objective/row_loss.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace vixen {
namespace {

// Marks "no such negative" in a top-k: below any similarity, far from overflow.
constexpr double kMasked = -1e30;

// The mean over the rows: over all, or over those that totals [2] count.
at::Tensor over_rows(const at::Tensor& x, const at::Tensor& totals, const SideShape& side) {
  return side.has_gaps ? x / totals.select(0, 1).clamp_min(1) : x / static_cast<double>(side.rows);
}

// Sums: the rows' values; with gaps, also how many rows count.
class RowLossRows : public TermRows {
 public:
  RowLossRows(const TermSpec& spec, const RowBlock& block, const at::Tensor& positive, const LossConfig& config)
      : of_s_(spec.reads_s), side_(block.side) {
    const auto& scores = of_s_ ? block.s : block.f;
    columns_ = scores.size(1);
    positive_ = (side_.has_gaps ? positive.clamp_min(0) : positive).unsqueeze(1);
    const auto s_p = scores.gather(1, positive_);  // [R, 1]
    auto negatives = hardest_negatives(scores, block.mask, config.negatives);
    at::Tensor counts;
    if (side_.has_gaps) {
      counts = (positive >= 0).unsqueeze(1);
      negatives.valid = negatives.valid.logical_and(counts);
    }
    negatives_ = negatives.columns;
    const auto s_n = scores.gather(1, negatives_);  // [R, K]
    const auto valid = negatives.valid.to(scores.scalar_type());

    const auto margin = (s_p - s_n).abs().clamp(config.margin_min, config.margin_max);
    const auto violation = s_n - s_p + margin;
    const auto slot_loss = violation.clamp_min(0) * valid;
    const auto active = slot_loss > 0;

    // Satisfied slots are pushed out of the softmax together; where all are, the weights are uniform over the valid
    // ones.
    auto logits = at::where(active, s_n, at::full_like(s_n, -50.0)) / config.temperature;
    logits = logits.masked_fill(negatives.valid.logical_not(), kMasked);
    const auto weights = at::softmax(logits, 1) * valid;
    const auto value = (weights * slot_loss).sum(1, /*keepdim=*/true);  // [R, 1]

    const auto direct = weights * hinge_slope(violation, config.tie_gradient) * valid;
    const auto through_weights = weights * (slot_loss - value) / config.temperature * active.to(scores.scalar_type());
    slopes_ = direct + through_weights;
    positive_slope_ = -direct.sum(1, true);
    sums_ = side_.has_gaps ? at::stack({value.sum(), counts.sum().to(value.scalar_type())}) : value.sum().unsqueeze(0);
  }

  at::Tensor sums() const override { return sums_; }
  bool needs_totals() const override { return side_.has_gaps; }
  ScoreGradients gradients(const at::Tensor& totals) const override {
    auto grad = at::zeros({positive_.size(0), columns_}, slopes_.options());
    grad.scatter_(1, negatives_, over_rows(slopes_, totals, side_));
    grad.scatter_add_(1, positive_, over_rows(positive_slope_, totals, side_));
    return of_s_ ? ScoreGradients{grad, {}} : ScoreGradients{{}, grad};
  }

 private:
  bool of_s_;
  SideShape side_;
  int64_t columns_ = 0;
  at::Tensor positive_;        // int64 [R, 1]
  at::Tensor negatives_;       // int64 [R, K]
  at::Tensor slopes_;          // [R, K]: of the sum over rows, at the negatives
  at::Tensor positive_slope_;  // [R, 1]
  at::Tensor sums_;
};

class RowLoss : public Term {
 public:
  RowLoss(const TermSpec& spec, const LossConfig& config) : Term(spec), config_(config) {}

  std::unique_ptr<TermRows> look(const RowBlock& block, const at::Tensor& positive) const override {
    return std::make_unique<RowLossRows>(spec(), block, positive, config_);
  }
  at::Tensor value(const at::Tensor& totals, const SideShape& side) const override {
    return over_rows(totals.select(0, 0), totals, side);
  }

 private:
  LossConfig config_;
};

}  // namespace

at::Tensor hinge_slope(const at::Tensor& x, TieGradient tie) {
  auto slope = (x > 0).to(x.scalar_type());
  // One half at 0, as torch.max of two tensors gives.
  if (tie == TieGradient::kHalf) slope = slope + 0.5 * (x == 0).to(x.scalar_type());
  return slope;
}

Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& mask, int64_t k) {
  k = std::min<int64_t>(k, scores.size(1));
  // A rank may own no rows: top-k is not asked, whose kernel on a GPU would be launched over nothing.
  if (scores.size(0) == 0)
    return {at::empty({0, k}, mask.options().dtype(at::kLong)), at::empty({0, k}, mask.options())};
  const auto masked = scores.masked_fill(mask, kMasked);
  auto [values, columns] = masked.topk(k, /*dim=*/1, /*largest=*/true, /*sorted=*/true);
  return {columns, values > kMasked / 2};
}

std::unique_ptr<Term> row_loss_term(TermSpec spec, const LossConfig& config) {
  spec.matrices = 1;  // the masked copy
  spec.passes = 8;    // masked copy, top-k, gradient and its sum
  spec.kept_bytes = kept_negatives_bytes(config);
  spec.sums = spec.gap_sums = 1;  // of the values; rows that count
  return std::make_unique<RowLoss>(spec, config);
}

}  // namespace vixen
