// Row losses over hard negatives, and their explicit gradients.
#include "objective/row_loss.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace vixen {
namespace {

// The mean over the rows: over all, or over those that totals [2] count.
at::Tensor over_rows(const at::Tensor& x, const at::Tensor& totals, const SideShape& side) {
  return side.has_gaps ? x / totals.select(0, 1).clamp_min(1) : x / static_cast<double>(side.rows);
}

// Sums: the rows' values; with gaps, also how many rows count.
class RowLossRows : public TermRows {
 public:
  RowLossRows(const TermSpec& spec, const RowBlock& block, const at::Tensor& positive, const LossConfig& config)
      : of_s_(spec.reads_s),
        side_(block.side),
        positive_((side_.has_gaps ? positive.clamp_min(0) : positive).unsqueeze(1)) {
    auto found = row_losses(of_s_ ? block.s : block.f, block.mask, positive, side_.has_gaps, config);
    negatives_ = std::move(found.columns);
    slopes_ = std::move(found.slopes);
    positive_slope_ = std::move(found.positive_slope);
    const auto value = found.values.sum();
    sums_ = side_.has_gaps ? at::stack({value, (positive >= 0).sum().to(value.scalar_type())}) : value.unsqueeze(0);
  }

  at::Tensor sums() const override { return sums_; }
  bool needs_totals() const override { return side_.has_gaps; }
  void add_gradients(const at::Tensor& totals, double weight, const ScoreGradients& sums) const override {
    const auto& target = of_s_ ? sums.s : sums.f;
    add_entries(target, negatives_, weighted(over_rows(slopes_, totals, side_), weight));
    add_entries(target, positive_, weighted(over_rows(positive_slope_, totals, side_), weight));
  }

 private:
  bool of_s_;
  SideShape side_;
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

std::unique_ptr<Term> row_loss_term(TermSpec spec, const LossConfig& config) {
  spec.matrices = 1;      // the masked copy
  spec.passes = 6;        // masked copy, top-k
  spec.fused_passes = 2;  // scores and mask
  spec.kept_bytes = kept_negatives_bytes(config);
  spec.sums = spec.gap_sums = 1;  // of the values; rows that count
  return std::make_unique<RowLoss>(spec, config);
}

}  // namespace vixen
