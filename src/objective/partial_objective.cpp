#include "objective/partial_objective.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "objective/row_block.hpp"

namespace vixen {

ObjectiveWay objective_way(const Config& config, const Objective& objective, int64_t columns) {
  if (config.train.objective != ObjectiveWay::kAuto) return config.train.objective;
  return objective.bytes(config.train.batch_size, columns) > kReplicatedBytes ? ObjectiveWay::kSharded
                                                                              : ObjectiveWay::kReplicated;
}

int64_t partial_bytes(const Objective& objective, int64_t b, int64_t m, int64_t all_b, int64_t all_m,
                      int64_t block_bytes) {
  const auto block = [&](Side side, int64_t rows, int64_t columns) {
    const int64_t row = objective.row_bytes(side, columns);
    return std::max(row, std::min(rows * row, block_bytes));
  };
  return std::max(block(Side::kQueries, b, all_m), block(Side::kColumns, m, all_b)) +
         b * objective.kept_row_bytes(Side::kQueries) + m * objective.kept_row_bytes(Side::kColumns);
}

at::Tensor pair_starts(const at::Tensor& positives, int64_t b) {
  return at::searchsorted(positives.select(0, 0), at::arange(b + 1, at::kLong));
}

PartialObjective::PartialObjective(const Objective& objective, const ObjectiveInput& input, at::Tensor starts,
                                   RowRange queries, RowRange columns, int64_t block_bytes)
    : objective_(objective),
      input_(input),
      starts_(std::move(starts)),
      queries_(queries),
      columns_(columns),
      block_bytes_(block_bytes) {
  check_input(objective, input);
  VIXEN_CHECK(starts_.device().is_cpu() && starts_.numel() == input.q.size(0) + 1, "{} starts of pairs of {} queries",
              starts_.numel(), input.q.size(0));
  grad_q_ = at::zeros_like(input.q);
  grad_u_ = at::zeros_like(input.u);
  if (objective.uses_prototypes()) grad_z_ = at::zeros_like(input.z);
}

at::Tensor PartialObjective::sums() {
  std::vector<at::Tensor> sums(objective_.terms().size());  // float64, by term
  for (const Side side : {Side::kQueries, Side::kColumns}) {
    if (!objective_.asks(side)) continue;
    const RowRange& own = side == Side::kQueries ? queries_ : columns_;
    const int64_t row_bytes = objective_.row_bytes(side, shape_of(input_, other_side(side)).rows);
    const int64_t most = std::max<int64_t>(1, block_bytes_ / row_bytes);
    int64_t begin = own.begin;
    do {  // no rows are a block too: its sums are zeros
      Block block = look(side, {begin, std::min(begin + most, own.end)});
      begin = block.rows.end;
      bool waits = false;
      for (size_t i = 0; i < sums.size(); ++i) {
        if (!block.found[i]) continue;
        const auto part = block.found[i]->sums().to(at::kDouble);
        sums[i] = weighted_sum(sums[i], part, 1);
        waits = waits || block.found[i]->needs_totals();
      }
      if (waits)
        waiting_.push_back(std::move(block));
      else
        add_gradients(block, std::vector<at::Tensor>(sums.size()));
    } while (begin < own.end);
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    const TermSpec& spec = objective_.terms()[i]->spec();
    sizes_.push_back(sums[i].size(0));
    VIXEN_CHECK(sizes_.back() == spec.n_sums(shape_of(input_, spec.asks)), "{}: {} sums, which it does not say",
                spec.name, sizes_.back());
  }
  return at::cat(sums);
}

PartialObjective::Block PartialObjective::look(Side side, const RowRange& rows) const {
  Block block{side, rows, {}};
  RowBlock scores;
  scores.side = shape_of(input_, side);
  scores.mask = relevant(input_, side, rows);
  if (side == Side::kQueries) {
    const auto* starts = starts_.const_data_ptr<int64_t>();
    const int64_t first = starts[rows.begin], count = starts[rows.end] - first;
    const auto pairs = input_.positives.narrow(1, first, count);
    scores.pairs = at::stack({pairs.select(0, 0) - rows.begin, pairs.select(0, 1)});
  }
  const auto product = [&](const at::Tensor& prototypes_or_labels) {
    const bool asked = side == Side::kQueries;
    const auto& asking = asked ? input_.q : prototypes_or_labels;
    const auto& answering = asked ? prototypes_or_labels : input_.q;
    return asking.narrow(0, rows.begin, rows.size()).matmul(answering.t());
  };
  for (const auto& term : objective_.terms()) {
    const TermSpec& spec = term->spec();
    block.found.emplace_back();
    if (spec.asks != side) continue;
    if (spec.reads_s && !scores.s.defined()) scores.s = product(input_.u);
    if (spec.reads_f && !scores.f.defined()) scores.f = product(input_.z);
    block.found.back() = term->look(scores, positives_of(spec, input_, rows));
  }
  return block;
}

void PartialObjective::add_gradients(const Block& block, const std::vector<at::Tensor>& totals) {
  bool reads_s = false, reads_f = false;
  for (const auto& term : objective_.terms()) {
    if (term->spec().asks != block.side) continue;
    reads_s = reads_s || term->spec().reads_s;
    reads_f = reads_f || term->spec().reads_f;
  }
  const int64_t columns = shape_of(input_, other_side(block.side)).rows;
  const auto matrix = [&](bool read) {
    return read ? at::zeros({block.rows.size(), columns}, input_.q.options()) : at::Tensor();
  };
  const ScoreGradients sums{matrix(reads_s), matrix(reads_f)};
  for (size_t i = 0; i < block.found.size(); ++i)
    if (block.found[i]) block.found[i]->add_gradients(totals[i], objective_.terms()[i]->spec().weight, sums);
  const auto own = [&](const at::Tensor& x) { return x.narrow(0, block.rows.begin, block.rows.size()); };
  const auto add = [&](const at::Tensor& grad, const at::Tensor& labels, const at::Tensor& grad_labels) {
    if (!grad.defined()) return;
    const bool queries = block.side == Side::kQueries;
    const auto& asking = queries ? input_.q : labels;
    const auto& answering = queries ? labels : input_.q;
    own(queries ? grad_q_ : grad_labels).addmm_(grad, answering);
    (queries ? grad_labels : grad_q_).addmm_(grad.t(), own(asking));
  };
  add(sums.s, input_.u, grad_u_);
  add(sums.f, input_.z, grad_z_);
}

ObjectiveResult PartialObjective::finish(const at::Tensor& totals) {
  std::vector<at::Tensor> by_term;
  int64_t first = 0;
  for (const int64_t size : sizes_) {
    by_term.push_back(totals.narrow(0, first, size).to(input_.q.scalar_type()));
    first += size;
  }
  VIXEN_CHECK(first > 0 && first == totals.numel(), "{} totals of {} sums", totals.numel(), first);
  ObjectiveResult result;
  for (size_t i = 0; i < by_term.size(); ++i) {
    const auto& term = *objective_.terms()[i];
    result.terms.push_back({term.spec().name, term.value(by_term[i], shape_of(input_, term.spec().asks))});
    result.loss = weighted_sum(result.loss, result.terms.back().value, term.spec().weight);
  }
  for (auto& block : waiting_) {
    add_gradients(block, by_term);
    block.found.clear();
  }
  waiting_.clear();
  result.grad_q = std::exchange(grad_q_, {});
  result.grad_u = std::exchange(grad_u_, {});
  result.grad_z = std::exchange(grad_z_, {});
  return result;
}

}  // namespace vixen
