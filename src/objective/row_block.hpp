// Rows of a side cut out of a batch: which of them are relevant to what, and their positives.
#pragma once

#include "objective/objective.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Checks the shapes of an input, and that it has what the objective reads.
void check_input(const Objective& objective, const ObjectiveInput& input);

SideShape shape_of(const ObjectiveInput& input, Side side);
inline Side other_side(Side side) {
  return side == Side::kQueries ? Side::kColumns : Side::kQueries;
}

/// bool [rows, C]: true at the relevant pairs of these rows of a side. Makes no host sync.
at::Tensor relevant(const ObjectiveInput& input, Side side, const RowRange& rows);

/// int64 [rows]: the drawn column of each of these rows, or its own: row i's is i; -1 where there are fewer columns.
at::Tensor positives_of(const TermSpec& term, const ObjectiveInput& input, const RowRange& rows);

/// sum + weight x value; an undefined sum is 0.
at::Tensor weighted_sum(const at::Tensor& sum, const at::Tensor& value, double weight);

}  // namespace vixen
