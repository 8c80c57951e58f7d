// The whole batch at once: every row of both sides in one block.
//   S = q u^T, F = q z^T [B, M]
#include <ATen/ATen.h>

#include "objective/objective.hpp"
#include "objective/row_block.hpp"

namespace vixen {
namespace {

// Each term's rows, found in the whole batch. Scores are gone when this returns.
std::vector<std::unique_ptr<TermRows>> look(const Objective& objective, const ObjectiveInput& input) {
  RowBlock queries, columns;
  queries.side = shape_of(input, Side::kQueries);
  queries.mask = relevant(input, Side::kQueries, {0, queries.side.rows});
  queries.pairs = input.positives;
  queries.s = input.q.matmul(input.u.t());
  if (objective.uses_prototypes()) queries.f = input.q.matmul(input.z.t());
  columns.side = shape_of(input, Side::kColumns);
  if (objective.asks(Side::kColumns)) {
    columns.mask = queries.mask.t().contiguous();
    for (const auto& term : objective.terms()) {
      if (term->spec().asks != Side::kColumns) continue;
      if (term->spec().reads_s && !columns.s.defined()) columns.s = queries.s.t().contiguous();
      if (term->spec().reads_f && !columns.f.defined()) columns.f = queries.f.t().contiguous();
    }
  }
  std::vector<std::unique_ptr<TermRows>> found;
  for (const auto& term : objective.terms()) {
    const auto& block = term->spec().asks == Side::kQueries ? queries : columns;
    found.push_back(term->look(block, positives_of(term->spec(), input, {0, block.side.rows})));
  }
  return found;
}

}  // namespace

ObjectiveResult Objective::evaluate(const ObjectiveInput& input) const {
  check_input(*this, input);
  const auto& [q, u, z, positives, draws] = input;
  auto found = look(*this, input);

  ObjectiveResult result;
  // [B, M]; of label columns the same, transposed.
  const auto matrix = [&] { return at::zeros({input.q.size(0), input.u.size(0)}, input.q.options()); };
  const ScoreGradients of_queries{matrix(), uses_prototypes() ? matrix() : at::Tensor()};
  const auto& [grad_s, grad_f] = of_queries;
  const ScoreGradients of_columns{grad_s.t(), grad_f.defined() ? grad_f.t() : grad_f};
  for (size_t i = 0; i < found.size(); ++i) {
    const TermSpec& term = terms_[i]->spec();
    const auto totals = found[i]->sums();
    result.terms.push_back({term.name, terms_[i]->value(totals, shape_of(input, term.asks))});
    result.loss = weighted_sum(result.loss, result.terms.back().value, term.weight);
    found[i]->add_gradients(totals, term.weight, term.asks == Side::kQueries ? of_queries : of_columns);
    found[i].reset();
  }
  result.grad_q = grad_s.matmul(u);
  result.grad_u = grad_s.t().matmul(q);
  if (grad_f.defined()) {
    result.grad_q = result.grad_q + grad_f.matmul(z);
    result.grad_z = grad_f.t().matmul(q);
  }
  return result;
}

}  // namespace vixen
