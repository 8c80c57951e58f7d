// The paper's plain triplet loss (docs/algorithm.md section 4.6): every positive against every negative of the row,
// margin loss.margin_max, summed over pairs, averaged over rows.
//   S = q u^T [B, M]; P relevant pairs
#include <ATen/ATen.h>

#include "objective/objective.hpp"
#include "objective/row_loss.hpp"

namespace vixen {
namespace {

// Its gradients do not wait for sums, so that the [P, C] slopes are not kept for long.
class TripletRows : public TermRows {
 public:
  TripletRows(const RowBlock& block, const LossConfig& config)
      : row_(block.pairs.select(0, 0)), column_(block.pairs.select(0, 1)), rows_(block.s.size(0)) {
    const auto& scores = block.s;
    const auto s_p = scores.index({row_, column_}).unsqueeze(1);                                    // [P, 1]
    const auto negative = block.mask.index_select(0, row_).logical_not().to(scores.scalar_type());  // [P, C]
    const auto violation = scores.index_select(0, row_) - s_p + config.margin_max;
    slopes_ = hinge_slope(violation, config.tie_gradient) * negative / static_cast<double>(block.side.rows);
    sum_ = (violation.clamp_min(0) * negative).sum();
  }

  at::Tensor sums() const override { return sum_.unsqueeze(0); }
  bool needs_totals() const override { return false; }
  void add_gradients(const at::Tensor&, double weight, const ScoreGradients& sums) const override {
    auto grad = at::zeros({rows_, slopes_.size(1)}, slopes_.options());
    grad.index_add_(0, row_, slopes_);
    grad.index_put_({row_, column_}, -slopes_.sum(1), /*accumulate=*/true);
    sums.s.add_(weighted(grad, weight));
  }

 private:
  at::Tensor row_, column_;  // int64 [P]
  int64_t rows_;
  at::Tensor slopes_;  // [P, C]
  at::Tensor sum_;
};

class Triplet : public Term {
 public:
  Triplet(const TermSpec& spec, const LossConfig& config) : Term(spec), config_(config) {}

  std::unique_ptr<TermRows> look(const RowBlock& block, const at::Tensor&) const override {
    return std::make_unique<TripletRows>(block, config_);
  }
  at::Tensor value(const at::Tensor& totals, const SideShape& side) const override {
    return totals.select(0, 0) / static_cast<double>(side.rows);
  }

 private:
  LossConfig config_;
};

}  // namespace

std::unique_ptr<Objective> make_triplet(const LossConfig& config) {
  Terms terms;
  // [P, C] matrices, counted as if a query had one relevant column: negatives, violation, slopes and what they are
  // made from.
  terms.push_back(std::make_unique<Triplet>(
      TermSpec{.name = "loss_u", .matrices = 6, .gradients = 1, .passes = 30, .fused_passes = 30}, config));
  return std::make_unique<Objective>(std::move(terms));
}

}  // namespace vixen
