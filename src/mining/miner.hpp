// Hard negatives of queries by search: the best labels that are not relevant, over labels and queries that are dealt to
// ranks (docs/mining.md).
//   n queries of this rank, L labels, D width, K = mining.depth
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "comm/communicator.hpp"
#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "mining/candidates.hpp"
#include "retrieval/retriever.hpp"

namespace vixen {

/// What is mined for: rows of a table of queries, with their relevant labels.
struct MiningQueries {
  const SequenceTable& table;
  const Ragged<int32_t>& relevant;  // of every row of the table: label ids, ascending
};

/// Lists of consecutive queries of this rank, on the host.
struct MinedBlock {
  int64_t first_query = 0;  // row of the table
  at::Tensor ids;           // int32 [rows, K]; -1 where there are fewer
  at::Tensor scores;        // float32 [rows, K]; -infinity there
  at::Tensor places;        // int32 [rows, K]: in what the search found, from 1; 0 there
  at::Tensor dropped;       // int32 [rows, 4]: labels found but relevant, skipped, of the same text, within the margin
};

/// Searches negatives among the labels of all ranks. The lists do not depend on the number of ranks. Everything is
/// collective.
class Miner {
 public:
  /// Queries at most that a rank has searched at a time.
  static constexpr int64_t kBlockQueries = 4096;

  /// labels [L of this rank, D] float32 on the communicator's device, by RowShards: what is searched; kept, not copied.
  /// label_texts: all labels. Everything must outlive the miner.
  Miner(const Config& config, at::Tensor labels, const SequenceTable& label_texts, Communicator& comm);

  /// queries [n, D] of a float type on the communicator's device, finite: this rank's rows of the table, from
  /// first_query on; n may differ between ranks. Each block of one or more of this rank's rows goes to `take` as it is
  /// done. stop: asked between blocks, collective; true ends the search. Returns the counts of all ranks, or none when
  /// it was stopped.
  std::optional<MinedCounts> mine(const MiningQueries& queries, const at::Tensor& embeddings, int64_t first_query,
                                  const std::function<void(const MinedBlock&)>& take,
                                  const std::function<bool()>& stop = {});

  /// Bytes on the device that a pass takes besides the query bank: labels in float32, index, lists of a block. For
  /// memory plans.
  static int64_t planned_bytes(const Config& config, int64_t own_labels, int64_t width, bool cpu);

 private:
  at::Tensor weakest_positives(const MiningQueries& queries, const at::Tensor& rows, int64_t first_query);

  Config config_;
  const SequenceTable* label_texts_;
  Communicator& comm_;
  ShardedTable labels_;
  Retriever retriever_;
};

}  // namespace vixen
