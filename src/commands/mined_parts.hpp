// What `vixen mine` has found, in files of some queries each beside the output: a killed command goes on behind them.
//   N queries, k negatives of a query
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "commands/mined_summary.hpp"
#include "commands/outputs.hpp"
#include "data/hdf5_matrix.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Lists of consecutive queries, on the host: this rank's, or all of a block.
struct MinedRows {
  at::Tensor ids;      // int32 [n, k]: labels, hardest first, -1 behind them
  at::Tensor scores;   // float32 [n, k]; -infinity there
  at::Tensor places;   // int32 [n, k]: in the list of the search, from 1; 0 there
  at::Tensor dropped;  // int32 [n, 4]: labels relevant, passed over, of the same text, within the margin

  static MinedRows empty(int64_t n, int64_t k);
};

/// A dataset of a mined file: "/negatives" [n, k], "/scores" [n, k], "/ranks" [n, k], "/dropped" [n, 4].
struct MinedColumn {
  const char* name;
  at::Tensor MinedRows::*rows;
  at::ScalarType dtype;
  Floats floats;
};
const std::vector<MinedColumn>& mined_columns();

class MinedParts {
 public:
  /// Queries that are in memory at a time while finished parts are read.
  static constexpr int64_t kReadQueries = 16384;

  /// OUT.part-00000 and so on. attributes: what decides the lists (mined_origin()); of rank 0 alone, which reads and
  /// writes.
  MinedParts(std::filesystem::path out, int64_t n_queries, int64_t part_queries, int64_t k, MinedAttributes attributes);

  int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  int64_t n_queries() const { return n_queries_; }
  int64_t k() const { return k_; }
  /// Queries of a part; they begin at a multiple of RowShards::kBlockRows.
  RowRange rows(int64_t part) const { return rows_[static_cast<size_t>(part)]; }
  std::filesystem::path path(int64_t part) const;

  /// Parts that are not there, or there with other attributes. UserError, on every rank, where a part would be written
  /// over something else. Collective.
  std::vector<int64_t> missing(const std::vector<InputPath>& inputs, Communicator& comm) const;
  /// Writes this rank's rows of a part (RowShards over its rows). Collective.
  void write(int64_t part, const MinedRows& own, const MinedSummary& summary, Communicator& comm) const;

  /// When all parts are done: what they say of themselves, in all. On rank 0, empty on others. Collective.
  MinedSummary summary(Communicator& comm) const;
  /// When all parts are done: their rows in order, block by block, to `take` on rank 0; a UserError is every rank's.
  /// The others only wait, for a block at a time. progress_label: of the bar. Collective.
  void for_each_block(Communicator& comm, const std::string& progress_label,
                      const std::function<void(int64_t first_query, const MinedRows&)>& take) const;
  /// Removes the output's parts, those of another division included, and what a killed command left of one. Local.
  void remove() const;

 private:
  MinedAttributes attributes_of(int64_t part) const;
  bool is_done(int64_t part) const;

  std::filesystem::path out_;
  int64_t n_queries_, k_;
  MinedAttributes attributes_;
  std::vector<RowRange> rows_;
};

}  // namespace vixen
