// The row-sharded table: free vectors, centroids, embedding banks and label embeddings are all one of these.
#pragma once

#include <ATen/core/Tensor.h>

#include "comm/communicator.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// A global table [n_rows, width] of which every rank holds the rows RowShards deals to it.
class ShardedTable {
 public:
  /// All zeros. dtype float32 or float16 (storage); gather returns float32 in both cases.
  ShardedTable(Communicator& comm, int64_t n_rows, int64_t width, at::ScalarType dtype = at::kFloat,
               int64_t block_rows = RowShards::kBlockRows);

  const RowShards& shards() const { return shards_; }
  RowRange local_range() const { return shards_.range(comm_->rank()); }
  int64_t width() const { return width_; }
  /// This rank's rows [local_range().size(), width], to be read and written in place.
  at::Tensor& local() { return local_; }
  const at::Tensor& local() const { return local_; }

  /// Rows of any global ids, int64 [m] on the host (m may differ between ranks, repeats allowed) -> float32 [m, width]
  /// on the device. Collective. Each distinct row travels once for each asking rank.
  at::Tensor gather(const at::Tensor& global_ids) const;

  /// Adds rows [m, width] float32 to a local buffer `into` [local rows, width] float32 at the ids' owners (gradients of
  /// a gather). Collective. The rows of one id are summed one after another by (source rank, position), then added: the
  /// same bits in every run, and for every world size if ranks hold successive parts of one list.
  void scatter_add(const at::Tensor& global_ids, const at::Tensor& rows, at::Tensor into) const;

  /// Writes rows of which every rank holds the full list: each owner keeps its own. Local, no communication.
  /// ids int64 [m] host, rows [m, width]. A repeated id keeps the last.
  void assign_replicated(const at::Tensor& global_ids, const at::Tensor& rows);

  /// The whole table [n_rows, width] in its storage dtype on every rank. Collective. For small tables and tests.
  at::Tensor gather_all() const;

 private:
  Communicator* comm_;
  RowShards shards_;
  int64_t width_;
  at::Tensor local_;
};

}  // namespace vixen
