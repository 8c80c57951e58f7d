// Which queries and labels make up a step: global, the same on every rank, a pure function of (data, order, seed,
// step).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "data/dataset.hpp"
#include "train/objective.hpp"

namespace vixen {

/// One global batch of B rows.
struct BatchPlan {
  uint64_t step = 0;                // global step, from 0
  std::vector<int64_t> query_rows;  // [B] training queries
  std::vector<int64_t> label_rows;  // [B] one positive label each; duplicates stay
  at::Tensor positives;             // bool [B, B], from the full ground truth
  LossDraws draws;
};

/// Draws the batches of an epoch.
class BatchPlanner {
 public:
  /// inverse_propensity [L]: the probability of a positive is proportional to it.
  BatchPlanner(const Dataset& dataset, std::vector<double> inverse_propensity, int64_t batch_size, uint64_t seed);

  int64_t steps_per_epoch() const;  // ceil(N / B)
  /// The order of queries in an epoch: a plain shuffle, or (leaf of every query given, int32 [N]) clusters in shuffled
  /// order, queries of a cluster by row number. Keyed by (seed, epoch).
  std::vector<int64_t> epoch_order(uint64_t epoch, const at::Tensor& leaves) const;
  /// Step `index` of the epoch that has this order.
  BatchPlan plan(uint64_t epoch, int64_t index, const std::vector<int64_t>& order) const;

 private:
  const Dataset* dataset_;
  std::vector<double> cumulative_;  // running sum of weights along train_labels().values, restarted at every row
  int64_t batch_size_;
  uint64_t seed_;
};

}  // namespace vixen
