// The row-sharded table: rows travel as planned, and are summed in an order of their own.
#include "comm/sharded_table.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>
#include <vector>

#include "base/check.hpp"
#include "device/transfer.hpp"
#include "kernels/segments.hpp"

namespace vixen {

namespace {

std::span<const int64_t> checked_ids(const at::Tensor& ids, const char* name) {
  VIXEN_CHECK(ids.scalar_type() == at::kLong && ids.device().is_cpu() && ids.dim() == 1 && ids.is_contiguous(),
              "{}: ids must be int64 [m] on the host", name);
  return {ids.const_data_ptr<int64_t>(), static_cast<size_t>(ids.numel())};
}

}  // namespace

const char* name_of(TablePlacement placement) {
  return placement == TablePlacement::kHost ? "host" : "device";
}

ShardedTable::ShardedTable(Communicator& comm, int64_t n_rows, int64_t width, at::ScalarType dtype,
                           TablePlacement placement, int64_t block_rows)
    : comm_(&comm), shards_(n_rows, comm.world_size(), block_rows), width_(width), placement_(placement) {
  VIXEN_CHECK(width >= 1 && (dtype == at::kFloat || dtype == at::kHalf), "width {}, {}", width, at::toString(dtype));
  const auto device = placement == TablePlacement::kHost ? at::Device(at::kCPU) : comm.device();
  local_ = at::zeros({local_range().size(), width}, at::dtype(dtype).device(device));
}

ShardedTable::ShardedTable(Communicator& comm, int64_t n_rows, at::Tensor local)
    : comm_(&comm),
      shards_(n_rows, comm.world_size()),
      width_(local.size(-1)),
      placement_(TablePlacement::kDevice),
      local_(std::move(local)) {
  VIXEN_CHECK(local_.dim() == 2 && local_.size(0) == local_range().size() && local_.device() == comm.device() &&
                  (local_.scalar_type() == at::kFloat || local_.scalar_type() == at::kHalf),
              "{} rows on rank {}, its share of {} is {}", local_.size(0), comm.rank(), n_rows, local_range().size());
}

at::Tensor& ShardedTable::local() {
  settle();
  return local_;
}

const at::Tensor& ShardedTable::local() const {
  settle();
  return local_;
}

at::Tensor ShardedTable::local_on_device(int64_t first, int64_t count) const {
  return local().narrow(0, first, count).to(comm_->device());
}

// Writes the rows that were assigned last.
void ShardedTable::settle() const {
  if (!arriving_) return;
  if (arriving_->copied) arriving_->copied->synchronize();
  local_.index_copy_(0, arriving_->targets, arriving_->rows);
  arriving_.reset();
}

// Local rows (int64 [m], where the table's are) in the storage dtype on the communicator's device.
at::Tensor ShardedTable::pick(const at::Tensor& local_rows) const {
  settle();
  const at::Device device = comm_->device();
  if (placement_ == TablePlacement::kDevice) return local_.index_select(0, local_rows);
  at::Tensor picked = at::empty({local_rows.numel(), width_}, local_.options().pinned_memory(!device.is_cpu()));
  at::index_select_out(picked, local_, 0, local_rows);
  return to_device(picked, device);
}

RowOwner ShardedTable::owner() const {
  const at::Device device = comm_->device();
  return {shards_, comm_->rank(), placement_ == TablePlacement::kHost ? at::Device(at::kCPU) : device, device};
}

RowGather ShardedTable::plan_gather(std::span<const int64_t> batch_ids) const {
  return plan_batch_gather(owner(), batch_ids);
}

RowSums ShardedTable::plan_scatter_add(std::span<const int64_t> batch_ids) const {
  return plan_batch_sums(owner(), batch_ids);
}

RowWrites ShardedTable::plan_assign(std::span<const int64_t> ids) const {
  return plan_writes(owner(), ids);
}

at::Tensor ShardedTable::gather(const at::Tensor& global_ids) const {
  return gather(vixen::plan_gather(owner(), checked_ids(global_ids, "gather"), *comm_));
}

at::Tensor ShardedTable::gather(const RowGather& plan) const {
  const c10::NoGradGuard no_gradient;
  const at::Tensor rows = comm_->all_to_all_rows(pick(plan.rows), plan.sent, plan.received);
  return rows.index_select(0, plan.places).to(at::kFloat);
}

void ShardedTable::scatter_add(const at::Tensor& global_ids, const at::Tensor& rows, at::Tensor into) const {
  scatter_add(plan_sums(owner(), checked_ids(global_ids, "scatter_add"), *comm_), rows, std::move(into));
}

void ShardedTable::scatter_add(const RowSums& plan, const at::Tensor& rows, at::Tensor into) const {
  const c10::NoGradGuard no_gradient;
  VIXEN_CHECK(rows.dim() == 2 && rows.size(0) == plan.order.numel() && rows.size(1) == width_ &&
                  rows.scalar_type() == at::kFloat && rows.device() == comm_->device(),
              "scatter_add: rows must be float32 [{}, {}] on the communicator's device", plan.order.numel(), width_);
  VIXEN_CHECK(into.dim() == 2 && into.size(0) == local_range().size() && into.size(1) == width_ &&
                  into.scalar_type() == at::kFloat && into.device() == comm_->device(),
              "scatter_add: the sum must be float32 [{}, {}] on the communicator's device", local_range().size(),
              width_);
  const at::Tensor received = comm_->all_to_all_rows(rows.index_select(0, plan.order), plan.sent, plan.received);
  if (plan.targets.numel() > 0) into.index_add_(0, plan.targets, sum_segments(received, plan.places, plan.starts));
}

void ShardedTable::assign_replicated(const at::Tensor& global_ids, const at::Tensor& rows) {
  VIXEN_CHECK(rows.dim() == 2 && rows.size(0) == global_ids.numel(), "assign_replicated: {} rows for {} ids",
              rows.size(0), global_ids.numel());
  assign_replicated(plan_assign(checked_ids(global_ids, "assign_replicated")), rows);
}

void ShardedTable::assign_replicated(const RowWrites& plan, const at::Tensor& rows) {
  const c10::NoGradGuard no_gradient;
  VIXEN_CHECK(rows.dim() == 2 && rows.size(1) == width_, "assign_replicated: rows must be {} wide", width_);
  if (plan.targets.numel() == 0) return;
  const at::Tensor values = rows.index_select(0, plan.sources).to(local_.scalar_type());
  if (placement_ == TablePlacement::kDevice) {
    local_.index_copy_(0, plan.targets, values.to(local_.device()));
    return;
  }
  settle();
  Arriving arriving{plan.targets, {}, {}};
  arriving.rows = at::empty(values.sizes(), local_.options().pinned_memory(!values.is_cpu()));
  arriving.rows.copy_(values, /*non_blocking=*/true);
  if (!values.is_cpu()) {
    const c10::impl::VirtualGuardImpl device(values.device().type());
    arriving.copied.emplace(values.device().type());
    arriving.copied->record(device.getStream(values.device()));
  }
  arriving_ = std::move(arriving);
}

at::Tensor ShardedTable::gather_all() const {
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(comm_->world_size()));
  for (int rank = 0; rank < comm_->world_size(); ++rank) rows.push_back(shards_.range(rank).size());
  const at::Tensor own = local_on_device(0, local_range().size());
  const at::Tensor all = comm_->all_gather_rows(own, rows);
  return all.is_alias_of(local_) ? all.clone() : all;
}

}  // namespace vixen
