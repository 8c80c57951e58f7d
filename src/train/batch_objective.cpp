#include "train/batch_objective.hpp"

#include <ATen/ATen.h>

#include <vector>

#include "base/check.hpp"
#include "objective/partial_objective.hpp"

namespace vixen {
namespace {

// The rows of each rank.
std::vector<int64_t> dealt(int64_t n_rows, int world_size) {
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(world_size));
  for (int rank = 0; rank < world_size; ++rank) rows.push_back(batch_slice(n_rows, rank, world_size).size());
  return rows;
}

ObjectiveResult evaluate_sharded(const Objective& objective, const ObjectiveInput& input, const at::Tensor& starts,
                                 const RowRange& queries, const RowRange& columns, Communicator& comm) {
  PartialObjective part(objective, input, starts, queries, columns);
  auto totals = part.sums();
  comm.all_reduce_sum(totals);
  auto result = part.finish(totals);
  const auto query_rows = dealt(input.q.size(0), comm.world_size());
  const auto column_rows = dealt(input.u.size(0), comm.world_size());
  result.grad_q = comm.reduce_scatter_rows(result.grad_q, query_rows);
  result.grad_u = comm.reduce_scatter_rows(result.grad_u, column_rows);
  if (result.grad_z.defined()) result.grad_z = comm.reduce_scatter_rows(result.grad_z, column_rows);
  return result;
}

}  // namespace

ObjectiveResult evaluate_batch(const Objective& objective, ObjectiveWay way, const ObjectiveInput& input,
                               const BatchPlan& plan, Communicator& comm) {
  VIXEN_CHECK(way != ObjectiveWay::kAuto, "a way to evaluate the objective is not chosen yet");
  const auto queries = batch_slice(input.q.size(0), comm.rank(), comm.world_size());
  const auto columns = batch_slice(input.u.size(0), comm.rank(), comm.world_size());
  if (way == ObjectiveWay::kSharded)
    return evaluate_sharded(objective, input, pair_starts(plan.positives, input.q.size(0)), queries, columns, comm);
  auto result = objective.evaluate(input);
  const auto own = [](at::Tensor& grad, const RowRange& rows) {
    if (grad.defined()) grad = grad.narrow(0, rows.begin, rows.size());
  };
  own(result.grad_q, queries);
  own(result.grad_u, columns);
  own(result.grad_z, columns);
  return result;
}

}  // namespace vixen
