// PRIME (docs/algorithm.md section 4): queries against label embeddings, against prototypes, labels against queries,
// and the regulariser that keeps prototypes at least as good as label embeddings.
//   S = q u^T, F = q z^T [B, M]
#include <ATen/ATen.h>

#include <array>

#include "base/check.hpp"
#include "objective/row_loss.hpp"

namespace vixen {
namespace {

constexpr std::array kDraws = {DrawSpec{"u", 0, DrawAxis::kQueries}, DrawSpec{"i", 1, DrawAxis::kColumns},
                               DrawSpec{"uv", 2, DrawAxis::kQueries}, DrawSpec{"r", 3, DrawAxis::kQueries}};
enum Draw { kU, kI, kUv, kR };

struct Regulariser {
  at::Tensor value;
  at::Tensor grad_s, grad_f;  // [B, M]: with respect to S and F
};

// Mean over its non-zero terms of max(0, x), with d / d x; 0 (not NaN) when there is none.
std::pair<at::Tensor, at::Tensor> mean_hinge(const at::Tensor& x, const at::Tensor& valid, TieGradient tie) {
  const auto terms = x.clamp_min(0) * valid;
  const auto count = (terms > 0).sum().clamp_min(1).to(x.scalar_type());
  const auto any = (terms > 0).any().to(x.scalar_type());
  return {terms.sum() / count, hinge_slope(x, tie) * valid * any / count};
}

Regulariser regulariser(const at::Tensor& s, const at::Tensor& f, const at::Tensor& mask, const at::Tensor& positive,
                        const LossConfig& config) {
  const auto column = positive.unsqueeze(1);
  const auto gap_p = s.gather(1, column) - f.gather(1, column) + config.regulariser_margin;
  const auto [value_p, slope_p] = mean_hinge(gap_p, at::ones_like(gap_p), config.tie_gradient);

  const auto negatives = hardest_negatives(f, mask, config.negatives);
  const auto gap_n = f.gather(1, negatives.columns) - s.gather(1, negatives.columns) + config.regulariser_margin;
  const auto [value_n, slope_n] = mean_hinge(gap_n, negatives.valid.to(gap_n.scalar_type()), config.tie_gradient);

  Regulariser result{(value_p + value_n) / 2, at::zeros_like(s), at::zeros_like(f)};
  result.grad_s.scatter_(1, negatives.columns, -slope_n / 2).scatter_add_(1, column, slope_p / 2);
  result.grad_f.scatter_(1, negatives.columns, slope_n / 2).scatter_add_(1, column, -slope_p / 2);
  return result;
}

class Prime : public Objective {
 public:
  explicit Prime(const LossConfig& config) : config_(config) {}

  bool uses_prototypes() const override { return true; }
  std::span<const DrawSpec> draws() const override { return kDraws; }

  ObjectiveResult evaluate(const ObjectiveInput& input) const override {
    const auto& [q, u, z, pairs, draws] = input;
    VIXEN_CHECK(z.defined() && draws.size() == kDraws.size(), "prototypes {}, {} draws", z.defined(), draws.size());
    const auto mask = positive_mask(input);
    const int64_t b = q.size(0), m = u.size(0);
    const bool fixed = config_.fixed_positive;
    const auto own = fixed ? diagonal_positives(b, m, q.options()) : at::Tensor();
    const auto of_column = fixed ? diagonal_positives(m, b, q.options()) : draws[kI];
    const bool unasked_columns = m > b;  // extra columns may have no query in the batch

    const auto s = q.matmul(u.t());
    const auto f = q.matmul(z.t());
    const auto term_u = row_loss(s, mask, fixed ? own : draws[kU], false, config_);
    const auto term_uv = row_loss(f, mask, fixed ? own : draws[kUv], false, config_);
    const auto term_i = row_loss(s.t().contiguous(), mask.t().contiguous(), of_column, unasked_columns, config_);
    const auto term_r = regulariser(s, f, mask, draws[kR], config_);

    ObjectiveResult result;
    result.terms = {
        {"loss_u", term_u.value}, {"loss_uv", term_uv.value}, {"loss_i", term_i.value}, {"loss_r", term_r.value}};
    result.loss = term_u.value + term_uv.value + term_i.value + config_.regulariser_weight * term_r.value;
    const auto grad_s = term_u.grad + term_i.grad.t() + config_.regulariser_weight * term_r.grad_s;
    const auto grad_f = term_uv.grad + config_.regulariser_weight * term_r.grad_f;
    result.grad_q = grad_s.matmul(u) + grad_f.matmul(z);
    result.grad_u = grad_s.t().matmul(q);
    result.grad_z = grad_f.t().matmul(q);
    return result;
  }

 protected:
  // Matrices: S, F, S transposed, two gradients of each side, the regulariser's two, a masked copy and what torch adds.
  // Products: S, F, and five of the gradients, of which q's two are sums.
  Costs costs() const override { return {.matrices = 10, .products = 7, .passes = 30}; }

 private:
  LossConfig config_;
};

}  // namespace

std::unique_ptr<Objective> make_prime(const LossConfig& config) {
  return std::make_unique<Prime>(config);
}

}  // namespace vixen
