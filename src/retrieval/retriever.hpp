// The best labels for queries: encoder, index over row-sharded labels, merge over ranks, filter pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "comm/communicator.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "model/encoder.hpp"
#include "retrieval/augment.hpp"
#include "search/index.hpp"

namespace vixen {

/// Labels that must not be answered to some queries, as (query, label) pairs.
struct PairFilter {
  int64_t widest = 0;                                           // most labels of one query, the same on every rank
  std::function<std::span<const int32_t>(int64_t row)> labels;  // of a local query: ascending ids; unset: no pairs

  /// pairs[first_query + row] belongs to the local query `row`; `pairs` must outlive the filter.
  static PairFilter of(const Ragged<int32_t>& pairs, int64_t first_query);
};

/// Lists without the labels that `filter` names, cut to k and padded. Local; on the lists' device.
TopK without_filtered(const TopK& lists, const PairFilter& filter, int64_t k);

/// What an index costs, over all ranks, and what its answers are worth.
struct RetrievalReport {
  SearchMethod method = SearchMethod::kExact;
  std::string description;    // of rank 0's index
  int64_t labels = 0;         // of all ranks
  int64_t index_bytes = 0;    // of the rank that holds most
  double build_seconds = 0;   // of the slowest rank
  double search_seconds = 0;  // of the last retrieve(), the slowest rank; without encoding and measuring
  /// Of an approximate method: the share of the exact search's labels that the last retrieve() found, over
  /// `recall_queries` of the `queries` queries of all ranks, evenly spaced.
  std::optional<double> recall;
  int64_t recall_queries = 0, queries = 0, k = 0;
  /// Of augmented answers, where neighbours vote: training queries of all ranks, and the rest as above.
  int64_t neighbours = 0, neighbour_bytes = 0;
  double neighbour_seconds = 0;

  /// "faiss_hnsw: 107,437 labels, ...": one line.
  std::string text() const;
};

/// Finds the k best labels of queries in the total order (score descending, then id ascending), for labels that are
/// dealt to ranks by RowShards. With an exact method the answer does not depend on the number of ranks. Everything is
/// collective.
class Retriever {
 public:
  /// Queries at most that an approximate method's recall is measured on.
  static constexpr int64_t kRecallQueries = 1000;

  /// labels [local rows, D] on the communicator's device: this rank's rows. Builds the index of config.method; a
  /// UserError of one rank (a row that is not finite) is every rank's. `comm` must outlive it.
  Retriever(ScaledRows labels, const IndexConfig& config, Communicator& comm);

  /// The same with an encoder for the queries of a data set; all must outlive the retriever.
  Retriever(Encoder& encoder, const Dataset& dataset, at::Tensor labels, const Config& config, Communicator& comm);

  /// Answers are augmented from now on (retrieval/augment.hpp) as config.augment says, by the training queries of the
  /// data set, which are encoded here like those that ask. Of a retriever with an encoder, whose labels are those of
  /// the data set. Collective.
  void augment();
  /// The same by `queries` [local rows, D], this rank's rows (RowShards); undefined where config.lambda is 0.
  void augment(const AugmentConfig& config, at::Tensor queries, AugmentSource source);

  /// queries [m_r, D] on the communicator's device, finite: this rank's, m_r may differ. Every rank gets the k best
  /// labels of its own queries that `filter` does not name, -1 and -infinity where there are fewer. k >= 1. An
  /// approximate method is compared with the exact search on a sample of the queries (report().recall).
  TopK retrieve(const at::Tensor& queries, int64_t k, const PairFilter& filter = {});

  /// The same for this rank's rows (RowShards) of a table of the data set; pairs: of all rows of the table, or null.
  TopK retrieve(const SequenceTable& queries, int64_t k, const Ragged<int32_t>* pairs = nullptr);

  /// The k best labels of `queries`, without timing or measuring: for callers that go through many blocks of queries.
  TopK find(const at::Tensor& queries, int64_t k, const PairFilter& filter = {}) {
    return search(*index_, queries, k, filter, {});
  }
  /// What such a caller's answers are worth: measures an approximate method's recall (report().recall) for `queries`
  /// [m_r, D] of a float type and says it on rank 0. Nothing with an exact method.
  void measure(const at::Tensor& queries, int64_t k, const PairFilter& filter = {});

  const RetrievalReport& report() const { return report_; }

  /// Bytes on the device that a retriever takes besides a rank's labels [n, D] in float32: the index, and what an
  /// approximate one is compared with. For memory plans.
  static int64_t planned_bytes(const IndexConfig& config, int64_t n, int64_t width, bool cpu);

 private:
  TopK search(const Index& index, const at::Tensor& queries, int64_t k, const PairFilter& filter,
              const std::string& progress_label);
  TopK search_labels(const at::Tensor& queries, int64_t k, const PairFilter& filter);
  TopK augment_lists(const at::Tensor& queries, const TopK& labels, int64_t k, const PairFilter& filter);
  void measure_recall(const at::Tensor& queries, int64_t k, const PairFilter& filter);

  struct Queries {
    Encoder& encoder;
    const Dataset& dataset;
    const Config& config;
  };
  std::optional<Queries> queries_;
  ScaledRows labels_;  // this rank's, for the exact search that recall is measured against
  int64_t first_label_ = 0;
  IndexConfig config_;
  Communicator& comm_;
  std::unique_ptr<Index> index_;
  struct Augmentation {
    AugmentConfig config;
    AugmentSource source;
    std::unique_ptr<Retriever> neighbours;  // null: the prior alone
  };
  std::optional<Augmentation> augmentation_;
  RetrievalReport report_;
};

}  // namespace vixen
