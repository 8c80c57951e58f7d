// Retrieval-augmented inference and the label prior (docs/algorithm.md section 7): a query's nearest training queries
// vote for their labels beside the labels' own scores.
//   n queries; kl labels and kq training queries of a list
#pragma once

#include <cstdint>

#include "comm/node_array.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "search/top_k.hpp"

namespace vixen {

/// Whether settings ask for either.
bool augments(const AugmentConfig& config);

/// What lists are augmented by.
struct AugmentSource {
  Ragged<int32_t> labels_of;        // of every training query
  NodeArray<int64_t> label_counts;  // [L]: training queries of each label

  /// Of the training split of a data set, which must outlive it. Collective.
  static AugmentSource of(const Dataset& dataset, Communicator& comm);
};

/// The k best labels of each query, score descending, then id ascending; -1 and -infinity where there are fewer. With
/// logits s / t + prior log n_l of the list of labels and s / t of the list of neighbours, p their common softmax, and
/// Y the labels of training queries,
///   score_l = (1 - lambda) p_l + lambda sum_j p_j Y_jl.
/// labels: [n, kl]; neighbours: [n, kq], ids are training queries; undefined: none. A pure function in float64, scores
/// rounded to float32; on the CPU.
TopK augmented(const TopK& labels, const TopK& neighbours, const AugmentSource& source, const AugmentConfig& config,
               int64_t k);

}  // namespace vixen
