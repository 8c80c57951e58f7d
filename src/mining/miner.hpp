// Hard negatives of queries by search: the best labels that are not relevant, over labels and queries that are dealt to
// ranks (docs/mining.md).
//   n queries of this rank, L labels, D width, K = mining.depth
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "comm/communicator.hpp"
#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "mining/candidates.hpp"
#include "retrieval/retriever.hpp"

namespace vixen {

/// Labels of successive queries, for a table or a part of it: views, what they show must outlive them.
struct QueryLabels {
  Ragged<int32_t> rows;     // label ids, ascending within a row
  int64_t first_query = 0;  // row of the table that rows[0] belongs to

  std::span<const int32_t> operator[](int64_t query) const { return rows[query - first_query]; }
};

/// Relevant labels that are not among those searched.
struct MiningPositives {
  QueryLabels of;                  // rows of `embeddings`
  const ShardedTable& embeddings;  // unit rows, over the same ranks
};

/// Rows of a table, evenly spaced: first, first + stride, ...
struct TableRows {
  TableRows(int64_t first_row, int64_t step = 1) : first(first_row), stride(step) {}

  int64_t operator[](int64_t i) const { return first + i * stride; }
  TableRows from(int64_t i) const { return {(*this)[i], stride}; }

  int64_t first, stride;
};

/// What is mined for: rows of a table of queries, with their relevant labels.
struct MiningQueries {
  const SequenceTable& table;
  QueryLabels relevant;                           // among the labels that are searched
  std::optional<QueryLabels> filter = {};         // neither relevant nor negatives: never found. On all ranks or none
  std::optional<MiningPositives> positives = {};  // whose scores the margins go by; none: the relevant labels
};

/// Whether a block says how its lists came about, beside what they are.
enum class MinedDetail { kLists, kPlacesAndDrops };

/// Lists of queries of this rank, on the host.
struct MinedBlock {
  TableRows queries;
  at::Tensor ids;      // int32 [rows, K]; -1 where there are fewer
  at::Tensor scores;   // float32 [rows, K]; -infinity there
  at::Tensor places;   // int32 [rows, K]: in what the search found, from 1; 0 there. Undefined unless asked for
  at::Tensor dropped;  // int32 [rows, 4]: labels found but relevant, skipped, of the same text, within the margin
};

/// Searches negatives among the labels of all ranks. The lists do not depend on the number of ranks. Everything is
/// collective.
class Miner {
 public:
  /// Queries at most that a rank has searched at a time.
  static constexpr int64_t kBlockQueries = 4096;

  /// labels [L of this rank, D] float32 on the communicator's device, by RowShards: what is searched; kept, not copied.
  /// label_texts: all labels. Everything must outlive the miner.
  Miner(const Config& config, at::Tensor labels, const SequenceTable& label_texts, Communicator& comm,
        MinedDetail detail = MinedDetail::kLists);

  /// embeddings [n, D] of a float type on the communicator's device, finite: of `rows` of the table of queries, this
  /// rank's; n may differ between ranks. Each block of one or more of this rank's rows goes to `take` as it is done.
  /// stop: asked between blocks, collective; true ends the search. Returns the counts of all ranks, or none when it was
  /// stopped. progress_label: of the bar on rank 0; empty: none.
  std::optional<MinedCounts> mine(const MiningQueries& queries, const at::Tensor& embeddings, TableRows rows,
                                  const std::function<void(const MinedBlock&)>& take,
                                  const std::function<bool()>& stop = {}, const std::string& progress_label = "mine");

  /// Measures what an approximate search.method misses, on a sample of such rows, and says it (report()). Nothing with
  /// an exact one.
  void measure(const MiningQueries& queries, const at::Tensor& embeddings, TableRows rows);

  /// The index, and the recall measured last.
  const RetrievalReport& report() const { return retriever_.report(); }

  /// What is searched.
  ShardedTable& labels() { return labels_; }

  /// Bytes on the device that a pass takes besides the query bank: labels in float32, index, lists of a block. For
  /// memory plans.
  static int64_t planned_bytes(const Config& config, int64_t own_labels, int64_t width, bool cpu);

 private:
  at::Tensor weakest_positives(const MiningQueries& queries, const at::Tensor& embeddings, TableRows rows);
  MinedBlock negatives_of(const MiningQueries& queries, const TopK& lists, const at::Tensor& weakest, TableRows rows,
                          MinedCounts& counts) const;

  Config config_;
  const SequenceTable* label_texts_;
  Communicator& comm_;
  MinedDetail detail_;
  ShardedTable labels_;
  Retriever retriever_;
};

}  // namespace vixen
