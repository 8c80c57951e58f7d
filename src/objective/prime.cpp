// PRIME (docs/algorithm.md section 4): queries against label embeddings, against prototypes, labels against queries,
// and the regulariser that keeps prototypes at least as good as label embeddings.
//   S = q u^T, F = q z^T [B, M]
#include <ATen/ATen.h>

#include <array>

#include "objective/objective.hpp"
#include "objective/row_loss.hpp"

namespace vixen {
namespace {

constexpr std::array kDraws = {DrawSpec{"u", 0, Side::kQueries}, DrawSpec{"i", 1, Side::kColumns},
                               DrawSpec{"uv", 2, Side::kQueries}, DrawSpec{"r", 3, Side::kQueries}};
enum Draw { kU, kI, kUv, kR };

// Mean over its non-zero terms of max(0, x); 0 (not NaN) when there is none. Sums: of the terms, and how many are not
// 0.
class MeanHinge {
 public:
  MeanHinge(const at::Tensor& x, const at::Tensor& valid, TieGradient tie) : slope_(hinge_slope(x, tie) * valid) {
    const auto terms = x.clamp_min(0) * valid;
    sums_ = at::stack({terms.sum(), (terms > 0).sum().to(x.scalar_type())});
  }

  const at::Tensor& sums() const { return sums_; }  // [2]
  static at::Tensor value(const at::Tensor& totals) { return totals.select(0, 0) / count(totals); }
  at::Tensor slope(const at::Tensor& totals) const {
    return slope_ * (totals.select(0, 1) > 0).to(slope_.scalar_type()) / count(totals);
  }

 private:
  static at::Tensor count(const at::Tensor& totals) { return totals.select(0, 1).clamp_min(1); }

  at::Tensor slope_;  // of the sum
  at::Tensor sums_;
};

class RegulariserRows : public TermRows {
 public:
  RegulariserRows(const RowBlock& block, const at::Tensor& positive, const LossConfig& config)
      : RegulariserRows(block, positive.unsqueeze(1), hardest_negatives(block.f, block.mask, config.negatives),
                        config) {}

  at::Tensor sums() const override { return at::cat({of_positive_.sums(), of_negatives_.sums()}); }
  bool needs_totals() const override { return true; }
  void add_gradients(const at::Tensor& totals, double weight, const ScoreGradients& sums) const override {
    const auto slope_p = weighted(of_positive_.slope(totals.narrow(0, 0, 2)) / 2, weight);
    const auto slope_n = weighted(of_negatives_.slope(totals.narrow(0, 2, 2)) / 2, weight);
    add_entries(sums.s, negatives_, -slope_n);
    add_entries(sums.s, positive_, slope_p);
    add_entries(sums.f, negatives_, slope_n);
    add_entries(sums.f, positive_, -slope_p);
  }

 private:
  RegulariserRows(const RowBlock& block, const at::Tensor& column, const Negatives& negatives, const LossConfig& config)
      : positive_(column),
        negatives_(negatives.columns),
        of_positive_(block.s.gather(1, positive_) - block.f.gather(1, positive_) + config.regulariser_margin,
                     at::ones({}, block.s.options()), config.tie_gradient),
        of_negatives_(block.f.gather(1, negatives_) - block.s.gather(1, negatives_) + config.regulariser_margin,
                      negatives.valid.to(block.s.scalar_type()), config.tie_gradient) {}

  at::Tensor positive_;   // int64 [R, 1]
  at::Tensor negatives_;  // int64 [R, K]
  MeanHinge of_positive_, of_negatives_;
};

class Regulariser : public Term {
 public:
  Regulariser(const TermSpec& spec, const LossConfig& config) : Term(spec), config_(config) {}

  std::unique_ptr<TermRows> look(const RowBlock& block, const at::Tensor& positive) const override {
    return std::make_unique<RegulariserRows>(block, positive, config_);
  }
  at::Tensor value(const at::Tensor& totals, const SideShape&) const override {
    return (MeanHinge::value(totals.narrow(0, 0, 2)) + MeanHinge::value(totals.narrow(0, 2, 2))) / 2;
  }

 private:
  LossConfig config_;
};

}  // namespace

std::unique_ptr<Objective> make_prime(const LossConfig& config) {
  const auto draw = [&](Draw own) { return config.fixed_positive ? TermSpec::kOwnColumn : static_cast<int>(own); };
  Terms terms;
  terms.push_back(row_loss_term({.name = "loss_u", .draw = draw(kU)}, config));
  terms.push_back(row_loss_term({.name = "loss_uv", .draw = draw(kUv), .reads_s = false, .reads_f = true}, config));
  terms.push_back(row_loss_term({.name = "loss_i", .asks = Side::kColumns, .draw = draw(kI)}, config));
  // The masked copy; passes: that and the top-k.
  terms.push_back(std::make_unique<Regulariser>(TermSpec{.name = "loss_r",
                                                         .draw = kR,
                                                         .reads_f = true,
                                                         .weight = config.regulariser_weight,
                                                         .matrices = 1,
                                                         .passes = 6,
                                                         .fused_passes = 2,
                                                         .kept_bytes = kept_negatives_bytes(config),
                                                         .sums = 4},
                                                config));
  return std::make_unique<Objective>(std::move(terms), kDraws);
}

}  // namespace vixen
