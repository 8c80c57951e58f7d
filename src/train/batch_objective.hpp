// The objective of a batch whose rows are dealt to ranks: the whole of it on every rank, or each rank's rows of it.
//   B queries, M label columns, D width; b and m rows of this rank
#pragma once

#include "comm/communicator.hpp"
#include "config/enums.hpp"
#include "objective/objective.hpp"
#include "sampling/batch_plan.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Loss and terms of the whole batch, the same on every rank, and the gradients of this rank's rows only: grad_q [b,
/// D], grad_u and grad_z [m, D], rows as batch_slice() deals them. `input` and `plan`: of the whole batch, the same on
/// every rank. The two ways agree to rounding, at every number of ranks.
///   kReplicated: every rank evaluates the whole batch; local.
///   kSharded: each rank its rows, block by block (objective/partial_objective.hpp); the sums and the gradients are
///   added up over ranks. Collective. The host does not wait for a GPU.
ObjectiveResult evaluate_batch(const Objective& objective, ObjectiveWay way, const ObjectiveInput& input,
                               const BatchPlan& plan, Communicator& comm);

}  // namespace vixen
