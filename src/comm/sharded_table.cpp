// The row-sharded table: who asks whom for which rows, and sums in an order of their own.
//
// Letters: W ranks, m ids asked for by this rank, D width.
#include "comm/sharded_table.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "device/transfer.hpp"
#include "kernels/segments.hpp"

namespace vixen {

namespace {

// The distinct rows this rank asks for, by owner (ascending ids are ascending owners), and those others ask of it.
struct Exchange {
  std::vector<int64_t> ids;           // distinct, ascending
  std::vector<int64_t> position;      // [m] of each id in `ids`
  std::vector<int64_t> counts;        // [W] of `ids` by owner
  std::vector<int64_t> asked_counts;  // [W] of `asked` by asking rank
  at::Tensor asked;                   // int64 [sum asked_counts] host: local rows asked for, in rank order
};

const int64_t* checked_ids(const at::Tensor& ids, int64_t n_rows, const char* name) {
  VIXEN_CHECK(ids.scalar_type() == at::kLong && ids.device().is_cpu() && ids.dim() == 1 && ids.is_contiguous(),
              "{}: ids must be int64 [m] on the host", name);
  const int64_t* data = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    VIXEN_CHECK(data[i] >= 0 && data[i] < n_rows, "{}: id {} (place {}) of {} rows", name, data[i], i, n_rows);
  }
  return data;
}

at::Tensor index_of(const std::vector<int64_t>& values) {
  return at::tensor(at::IntArrayRef(values), at::kLong);
}

// Ids travel between hosts: a GPU that is asked for them would have to finish all its work first.
at::Tensor exchange_ids(Communicator& comm, const std::vector<int64_t>& ids, std::span<const int64_t> send_rows,
                        std::span<const int64_t> receive_rows) {
  return index_of(comm.all_to_all_host(ids, send_rows, receive_rows));
}

Exchange plan_exchange(Communicator& comm, const RowShards& shards, const at::Tensor& global_ids, const char* name) {
  Exchange plan;
  const int64_t* ids = checked_ids(global_ids, shards.n_rows(), name);
  plan.ids.assign(ids, ids + global_ids.numel());
  std::sort(plan.ids.begin(), plan.ids.end());
  plan.ids.erase(std::unique(plan.ids.begin(), plan.ids.end()), plan.ids.end());
  plan.position.resize(static_cast<size_t>(global_ids.numel()));
  for (size_t i = 0; i < plan.position.size(); ++i) {
    plan.position[i] = std::lower_bound(plan.ids.begin(), plan.ids.end(), ids[i]) - plan.ids.begin();
  }
  plan.counts.assign(static_cast<size_t>(comm.world_size()), 0);
  for (const int64_t id : plan.ids) ++plan.counts[static_cast<size_t>(shards.owner(id))];
  plan.asked_counts = comm.all_to_all_host(plan.counts);
  plan.asked = exchange_ids(comm, plan.ids, plan.counts, plan.asked_counts).sub(shards.range(comm.rank()).begin);
  return plan;
}

at::Tensor device_index(const std::vector<int64_t>& values, at::Device device) {
  return to_device(index_of(values), device);
}

// Indices 0..n-1 sorted by key (stable), and where each run of one key begins, with n at the end.
std::pair<std::vector<int64_t>, std::vector<int64_t>> group_by(const int64_t* keys, int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n)), starts;
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return keys[a] < keys[b]; });
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    if (i == 0 || keys[order[at]] != keys[order[at - 1]]) starts.push_back(i);
  }
  starts.push_back(n);
  return {std::move(order), std::move(starts)};
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

// Local rows (int64 [m] host) in the storage dtype on the communicator's device.
at::Tensor ShardedTable::pick(const at::Tensor& local_rows) const {
  settle();
  const at::Device device = comm_->device();
  if (placement_ == TablePlacement::kDevice) return local_.index_select(0, to_device(local_rows, device));
  at::Tensor picked = at::empty({local_rows.numel(), width_}, local_.options().pinned_memory(!device.is_cpu()));
  at::index_select_out(picked, local_, 0, local_rows);
  return to_device(picked, device);
}

at::Tensor ShardedTable::gather(const at::Tensor& global_ids) const {
  const c10::NoGradGuard no_gradient;
  const Exchange plan = plan_exchange(*comm_, shards_, global_ids, "gather");
  const at::Tensor rows = comm_->all_to_all_rows(pick(plan.asked), plan.asked_counts, plan.counts);
  return rows.index_select(0, device_index(plan.position, comm_->device())).to(at::kFloat);
}

void ShardedTable::scatter_add(const at::Tensor& global_ids, const at::Tensor& rows, at::Tensor into) const {
  const c10::NoGradGuard no_gradient;
  VIXEN_CHECK(rows.dim() == 2 && rows.size(0) == global_ids.numel() && rows.size(1) == width_ &&
                  rows.scalar_type() == at::kFloat && rows.device() == comm_->device(),
              "scatter_add: rows must be float32 [{}, {}] on the communicator's device", global_ids.numel(), width_);
  VIXEN_CHECK(into.dim() == 2 && into.size(0) == local_range().size() && into.size(1) == width_ &&
                  into.scalar_type() == at::kFloat && into.device() == comm_->device(),
              "scatter_add: the sum must be float32 [{}, {}] on the communicator's device", local_range().size(),
              width_);
  const int64_t* ids = checked_ids(global_ids, shards_.n_rows(), "scatter_add");
  // Every row travels, sorted by (id, position): were repeats summed before, the brackets of the sum, hence its last
  // bits, would depend on which ranks the rows of one id lie on.
  const std::vector<int64_t> order = group_by(ids, global_ids.numel()).first;
  std::vector<int64_t> sorted_ids, counts(static_cast<size_t>(comm_->world_size()), 0);
  for (const int64_t i : order) {
    sorted_ids.push_back(ids[i]);
    ++counts[static_cast<size_t>(shards_.owner(ids[i]))];
  }
  const std::vector<int64_t> received_counts = comm_->all_to_all_host(counts);
  const at::Tensor targets = exchange_ids(*comm_, sorted_ids, counts, received_counts).sub(local_range().begin);
  const at::Tensor sent = rows.index_select(0, device_index(order, rows.device()));
  const at::Tensor received = comm_->all_to_all_rows(sent, counts, received_counts);
  if (targets.numel() == 0) return;
  const int64_t* target = targets.const_data_ptr<int64_t>();
  const auto [places, starts] = group_by(target, targets.numel());
  std::vector<int64_t> distinct;
  for (size_t g = 0; g + 1 < starts.size(); ++g) distinct.push_back(target[places[static_cast<size_t>(starts[g])]]);
  into.index_add_(0, device_index(distinct, into.device()), sum_segments(received, places, starts));
}

void ShardedTable::assign_replicated(const at::Tensor& global_ids, const at::Tensor& rows) {
  const c10::NoGradGuard no_gradient;
  VIXEN_CHECK(rows.dim() == 2 && rows.size(0) == global_ids.numel() && rows.size(1) == width_,
              "assign_replicated: rows must be [{}, {}]", global_ids.numel(), width_);
  const int64_t* ids = checked_ids(global_ids, shards_.n_rows(), "assign_replicated");
  const RowRange own = local_range();
  std::vector<int64_t> own_rows, places;
  for (int64_t i = 0; i < global_ids.numel(); ++i) {
    if (!own.contains(ids[i])) continue;
    own_rows.push_back(ids[i] - own.begin);
    places.push_back(i);
  }
  // The last place of each row: index writes with repeats have no order of their own.
  const auto [order, starts] = group_by(own_rows.data(), std::ssize(own_rows));
  std::vector<int64_t> targets, sources;
  for (size_t g = 0; g + 1 < starts.size(); ++g) {
    const auto last = static_cast<size_t>(order[static_cast<size_t>(starts[g + 1] - 1)]);
    targets.push_back(own_rows[last]);
    sources.push_back(places[last]);
  }
  if (targets.empty()) return;
  const at::Tensor values = rows.index_select(0, device_index(sources, rows.device())).to(local_.scalar_type());
  if (placement_ == TablePlacement::kDevice) {
    local_.index_copy_(0, device_index(targets, local_.device()), values.to(local_.device()));
    return;
  }
  settle();
  Arriving arriving{index_of(targets), {}, {}};
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
