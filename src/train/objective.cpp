// The PRIME objective: row losses over hard negatives, the regulariser, and their explicit gradients.
//   q, u, z [B, D] unit rows; S = q u^T, q z^T or u q^T [B, B]; K negatives of a row; G = d loss / d S [B, B]
#include "train/objective.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"

namespace vixen {
namespace {

// Stands for "no such negative" in a top-k: below any similarity, far from overflow.
constexpr double kMasked = -1e30;

struct Negatives {
  at::Tensor columns;  // int64 [R, K]
  at::Tensor valid;    // bool [R, K]: a true negative (rows with fewer than K have some that are not)
};

Negatives hardest_negatives(const at::Tensor& scores, const at::Tensor& target, int64_t k) {
  const auto masked = scores.masked_fill(target, kMasked);
  auto [values, columns] =
      masked.topk(std::min<int64_t>(k, scores.size(1)), /*dim=*/1, /*largest=*/true, /*sorted=*/true);
  return {columns, values > kMasked / 2};
}

// Slope of max(0, x): 1 above 0, 0 below; at exactly 0 one half, as torch.max of two tensors gives
// (docs/algorithm.md section 4, step 4).
at::Tensor hinge_slope(const at::Tensor& x, TieGradient tie) {
  auto slope = (x > 0).to(x.scalar_type());
  if (tie == TieGradient::kHalf) slope = slope + 0.5 * (x == 0).to(x.scalar_type());
  return slope;
}

struct RowLoss {
  at::Tensor value;  // scalar: mean over rows
  at::Tensor grad;   // [R, C]: d value / d scores
};

// docs/algorithm.md section 4, steps 1 to 5, for one score matrix.
RowLoss row_loss(const at::Tensor& scores, const at::Tensor& target, const at::Tensor& positive,
                 const LossConfig& config) {
  const auto positive_column = positive.unsqueeze(1);
  const auto s_p = scores.gather(1, positive_column);  // [R, 1]
  const auto negatives = hardest_negatives(scores, target, config.negatives);
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
  const double rows = static_cast<double>(scores.size(0));
  auto grad = at::zeros_like(scores);
  grad.scatter_(1, negatives.columns, (direct + through_weights) / rows);
  grad.scatter_add_(1, positive_column, -direct.sum(1, true) / rows);
  return {value.mean(), grad};
}

struct Regulariser {
  at::Tensor value;
  at::Tensor grad_i, grad_f;  // [B, B]: with respect to q u^T and q z^T
};

// Mean over its non-zero terms of max(0, x), with d / d x; 0 (not NaN) when there is none.
std::pair<at::Tensor, at::Tensor> mean_hinge(const at::Tensor& x, const at::Tensor& valid, TieGradient tie) {
  const auto terms = x.clamp_min(0) * valid;
  const auto count = (terms > 0).sum().clamp_min(1).to(x.scalar_type());
  const auto any = (terms > 0).any().to(x.scalar_type());
  return {terms.sum() / count, hinge_slope(x, tie) * valid * any / count};
}

Regulariser regulariser(const at::Tensor& scores_i, const at::Tensor& scores_f, const at::Tensor& target,
                        const at::Tensor& positive, const LossConfig& config) {
  const auto column = positive.unsqueeze(1);
  const auto gap_p = scores_i.gather(1, column) - scores_f.gather(1, column) + config.regulariser_margin;
  const auto [value_p, slope_p] = mean_hinge(gap_p, at::ones_like(gap_p), config.tie_gradient);

  const auto negatives = hardest_negatives(scores_f, target, config.negatives);
  const auto gap_n =
      scores_f.gather(1, negatives.columns) - scores_i.gather(1, negatives.columns) + config.regulariser_margin;
  const auto [value_n, slope_n] = mean_hinge(gap_n, negatives.valid.to(gap_n.scalar_type()), config.tie_gradient);

  Regulariser result{(value_p + value_n) / 2, at::zeros_like(scores_i), at::zeros_like(scores_f)};
  result.grad_i.scatter_(1, negatives.columns, -slope_n / 2).scatter_add_(1, column, slope_p / 2);
  result.grad_f.scatter_(1, negatives.columns, slope_n / 2).scatter_add_(1, column, -slope_p / 2);
  return result;
}

// The paper's plain triplet loss: every positive against every negative of the row, margin margin_max, summed over
// pairs, averaged over rows.
RowLoss triplet_loss(const at::Tensor& scores, const at::Tensor& target, const LossConfig& config) {
  const auto pairs = target.nonzero();  // [P, 2]
  const auto row = pairs.select(1, 0);
  const auto column = pairs.select(1, 1);
  const auto s_p = scores.index({row, column}).unsqueeze(1);                                 // [P, 1]
  const auto negative = target.index_select(0, row).logical_not().to(scores.scalar_type());  // [P, B]
  const auto violation = scores.index_select(0, row) - s_p + config.margin_max;
  const double rows = static_cast<double>(scores.size(0));
  const auto slope = hinge_slope(violation, config.tie_gradient) * negative / rows;
  auto grad = at::zeros_like(scores);
  grad.index_add_(0, row, slope);
  grad.index_put_({row, column}, -slope.sum(1), /*accumulate=*/true);
  return {(violation.clamp_min(0) * negative).sum() / rows, grad};
}

}  // namespace

ObjectiveResult objective(const at::Tensor& q, const at::Tensor& u, const at::Tensor& z, const at::Tensor& positives,
                          const LossDraws& draws, Method method, const LossConfig& config) {
  VIXEN_CHECK(
      q.dim() == 2 && u.sizes() == q.sizes() && positives.size(0) == q.size(0) && positives.size(1) == u.size(0),
      "q {} x {}, u {} x {}, positives {} x {}", q.size(0), q.size(1), u.size(0), u.size(1), positives.size(0),
      positives.size(1));
  ObjectiveResult result;
  const auto scores_u = q.matmul(u.t());
  if (method == Method::kTriplet) {
    const auto plain = triplet_loss(scores_u, positives, config);
    result.loss = result.loss_u = plain.value;
    result.grad_q = plain.grad.matmul(u);
    result.grad_u = plain.grad.t().matmul(q);
    return result;
  }

  const auto diagonal = at::arange(q.size(0), draws.u.options());
  const bool fixed = config.fixed_positive || method == Method::kNgame;
  const auto term_u = row_loss(scores_u, positives, fixed ? diagonal : draws.u, config);
  result.loss_u = term_u.value;
  if (method == Method::kNgame) {
    result.loss = term_u.value;
    result.grad_q = term_u.grad.matmul(u);
    result.grad_u = term_u.grad.t().matmul(q);
    return result;
  }

  const auto scores_z = q.matmul(z.t());
  const auto term_uv = row_loss(scores_z, positives, fixed ? diagonal : draws.uv, config);
  const auto term_i =
      row_loss(scores_u.t().contiguous(), positives.t().contiguous(), fixed ? diagonal : draws.i, config);
  const auto term_r = regulariser(scores_u, scores_z, positives, draws.r, config);
  result.loss_uv = term_uv.value;
  result.loss_i = term_i.value;
  result.loss_r = term_r.value;
  result.loss = term_u.value + term_uv.value + term_i.value + config.regulariser_weight * term_r.value;

  const auto grad_scores_u = term_u.grad + term_i.grad.t() + config.regulariser_weight * term_r.grad_i;
  const auto grad_scores_z = term_uv.grad + config.regulariser_weight * term_r.grad_f;
  result.grad_q = grad_scores_u.matmul(u) + grad_scores_z.matmul(z);
  result.grad_u = grad_scores_u.t().matmul(q);
  result.grad_z = grad_scores_z.t().matmul(q);
  return result;
}

}  // namespace vixen
