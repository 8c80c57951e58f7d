// The row-sharded table: free vectors, centroids, embedding banks and label embeddings are all one of these.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <optional>
#include <span>

#include "comm/communicator.hpp"
#include "comm/row_exchange.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Where a rank's rows are stored: beside its other tensors, or in host memory. Rows are gathered to, and assigned
/// from, the communicator's device in either case, with the same bits; on a CPU both are the same memory.
enum class TablePlacement { kDevice, kHost };
/// "device" or "host".
const char* name_of(TablePlacement placement);

/// A global table [n_rows, width] of which every rank holds the rows RowShards deals to it. One thread at a time.
class ShardedTable {
 public:
  /// All zeros. dtype float32 or float16 (storage); gather returns float32 in both cases.
  ShardedTable(Communicator& comm, int64_t n_rows, int64_t width, at::ScalarType dtype = at::kFloat,
               TablePlacement placement = TablePlacement::kDevice, int64_t block_rows = RowShards::kBlockRows);
  /// A table of rows that are there: `local` [rows that RowShards deals to this rank, width] float32 or float16 on the
  /// communicator's device, kept, not copied.
  ShardedTable(Communicator& comm, int64_t n_rows, at::Tensor local);

  const RowShards& shards() const { return shards_; }
  RowRange local_range() const { return shards_.range(comm_->rank()); }
  int64_t width() const { return width_; }
  /// This rank's rows [local_range().size(), width], to be read and written in place; where they were placed.
  at::Tensor& local();
  const at::Tensor& local() const;
  /// Rows [first, first + count) of local() on the communicator's device: a view, or a copy of rows in host memory.
  at::Tensor local_on_device(int64_t first, int64_t count) const;

  /// The plans of what is below for ids that are the same on all ranks, of which rank r's are part batch_slice(): they
  /// save the messages between hosts that ids of one rank take. BugError for an id that is no row. Local, from any
  /// thread.
  RowGather plan_gather(std::span<const int64_t> batch_ids) const;
  RowSums plan_scatter_add(std::span<const int64_t> batch_ids) const;
  RowWrites plan_assign(std::span<const int64_t> ids) const;

  /// Rows of any global ids, int64 [m] on the host (m may differ between ranks, repeats allowed) -> float32 [m, width]
  /// on the device. Collective. Each distinct row travels once for each asking rank. The host does not wait for a GPU.
  at::Tensor gather(const at::Tensor& global_ids) const;
  at::Tensor gather(const RowGather& plan) const;

  /// Adds rows [m, width] float32 to a local buffer `into` [local rows, width] float32 at the ids' owners (gradients of
  /// a gather). Collective. The rows of one id are summed one after another by (source rank, position), then added: the
  /// same bits in every run, and for every world size if ranks hold successive parts of one list.
  void scatter_add(const at::Tensor& global_ids, const at::Tensor& rows, at::Tensor into) const;
  void scatter_add(const RowSums& plan, const at::Tensor& rows, at::Tensor into) const;

  /// Writes rows of which every rank holds the full list: each owner keeps its own. Local, no communication.
  /// ids int64 [m] host, rows [m, width] on the device. A repeated id keeps the last. Rows for host memory are on their
  /// way when this returns: whoever next looks at the table waits for them.
  void assign_replicated(const at::Tensor& global_ids, const at::Tensor& rows);
  void assign_replicated(const RowWrites& plan, const at::Tensor& rows);

  /// The whole table [n_rows, width] in its storage dtype on every rank. Collective. For small tables and tests.
  at::Tensor gather_all() const;

 private:
  // Assigned rows on their way down from a GPU.
  struct Arriving {
    at::Tensor targets;                // int64 [m] host: local rows
    at::Tensor rows;                   // [m, width] host, pinned
    std::optional<c10::Event> copied;  // none on a CPU
  };

  RowOwner owner() const;
  void settle() const;
  at::Tensor pick(const at::Tensor& local_rows) const;

  Communicator* comm_;
  RowShards shards_;
  int64_t width_;
  TablePlacement placement_;
  at::Tensor local_;
  mutable std::optional<Arriving> arriving_;  // belongs to the contents of local_
};

}  // namespace vixen
