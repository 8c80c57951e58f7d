#include "objective/row_block.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "base/check.hpp"

namespace vixen {

void check_input(const Objective& objective, const ObjectiveInput& input) {
  VIXEN_CHECK(input.q.dim() == 2 && input.u.dim() == 2 && input.u.size(1) == input.q.size(1) &&
                  input.u.size(0) >= input.q.size(0) && input.positives.dim() == 2 && input.positives.size(0) == 2,
              "q [{}], u [{}], positives [{}]: expected [B, D], [M >= B, D], [2, P]", fmt::join(input.q.sizes(), ", "),
              fmt::join(input.u.sizes(), ", "), input.positives.sizes());
  VIXEN_CHECK((input.z.defined() || !objective.uses_prototypes()) && input.draws.size() == objective.draws().size(),
              "prototypes {}, {} draws", input.z.defined(), input.draws.size());
}

SideShape shape_of(const ObjectiveInput& input, Side side) {
  return side_shape(side, input.q.size(0), input.u.size(0));
}

at::Tensor relevant(const ObjectiveInput& input, Side side, const RowRange& rows) {
  const auto asking = input.positives.select(0, side == Side::kQueries ? 0 : 1);
  const auto answering = input.positives.select(0, side == Side::kQueries ? 1 : 0);
  const int64_t columns = shape_of(input, other_side(side)).rows;
  const auto options = input.q.options().dtype(at::kBool);
  if (rows.size() == shape_of(input, side).rows)
    return at::zeros({rows.size(), columns}, options).index_put_({asking, answering}, at::ones({}, options));
  // Pairs of other rows go to one row more, which is cut off: how many they are is not known on the host.
  const auto here = asking.ge(rows.begin).logical_and(asking.lt(rows.end));
  const auto row = at::where(here, asking - rows.begin, rows.size());
  return at::zeros({rows.size() + 1, columns}, options)
      .index_put_({row, answering}, at::ones({}, options))
      .narrow(0, 0, rows.size());
}

at::Tensor positives_of(const TermSpec& term, const ObjectiveInput& input, const RowRange& rows) {
  if (term.draw != TermSpec::kOwnColumn)
    return input.draws[static_cast<size_t>(term.draw)].narrow(0, rows.begin, rows.size());
  const int64_t columns = shape_of(input, other_side(term.asks)).rows;
  auto own = at::arange(rows.begin, rows.end, input.q.options().dtype(at::kLong));
  return rows.end <= columns ? own : own.masked_fill(own >= columns, -1);
}

at::Tensor weighted_sum(const at::Tensor& sum, const at::Tensor& value, double weight) {
  return sum.defined() ? sum + weighted(value, weight) : weighted(value, weight);
}

}  // namespace vixen
