// The paper's plain triplet loss (docs/algorithm.md section 4.6): every positive against every negative of the row,
// margin loss.margin_max, summed over pairs, averaged over rows.
//   S = q u^T [B, M]; P relevant pairs
#include <ATen/ATen.h>

#include "objective/row_loss.hpp"

namespace vixen {
namespace {

class Triplet : public Objective {
 public:
  explicit Triplet(const LossConfig& config) : config_(config) {}

  ObjectiveResult evaluate(const ObjectiveInput& input) const override {
    const auto mask = positive_mask(input);
    const auto scores = input.q.matmul(input.u.t());
    const auto row = input.positives.select(0, 0);
    const auto column = input.positives.select(0, 1);
    const auto s_p = scores.index({row, column}).unsqueeze(1);                               // [P, 1]
    const auto negative = mask.index_select(0, row).logical_not().to(scores.scalar_type());  // [P, M]
    const auto violation = scores.index_select(0, row) - s_p + config_.margin_max;
    const double rows = static_cast<double>(scores.size(0));
    const auto slope = hinge_slope(violation, config_.tie_gradient) * negative / rows;
    auto grad = at::zeros_like(scores);
    grad.index_add_(0, row, slope);
    grad.index_put_({row, column}, -slope.sum(1), /*accumulate=*/true);
    return result_of({(violation.clamp_min(0) * negative).sum() / rows, grad}, input);
  }

 protected:
  // As ngame; the [P, M] matrices are counted as if a query had one relevant column.
  Costs costs() const override { return {.matrices = 4, .products = 3, .passes = 30}; }

 private:
  LossConfig config_;
};

}  // namespace

std::unique_ptr<Objective> make_triplet(const LossConfig& config) {
  return std::make_unique<Triplet>(config);
}

}  // namespace vixen
