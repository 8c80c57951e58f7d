// Which queries and labels make up a step: global, the same on every rank, a pure function of (data, order, seed,
// step).
//   B queries of a batch, M >= B label columns, P relevant pairs
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "comm/node_array.hpp"
#include "data/dataset.hpp"
#include "objective/objective.hpp"

namespace vixen {

/// One global batch.
struct BatchPlan {
  uint64_t step = 0;                // global step, from 0
  std::vector<int64_t> query_rows;  // [B] training queries
  std::vector<int64_t>
      label_rows;        // [M]: one positive label of each query; duplicates are kept. Then extra columns, each once
  at::Tensor positives;  // int64 [2, P] host, from the full ground truth: query of the batch, column
  std::vector<at::Tensor> draws;  // int64 [B] or [M] host: what the objective asked for, in its order
};

/// Draws the batches of an epoch.
class BatchPlanner {
 public:
  /// inverse_propensity [L]: the probability of a positive is proportional to it. draws: of the objective; must outlive
  /// the planner.
  BatchPlanner(const Dataset& dataset, NodeArray<double> inverse_propensity, int64_t batch_size, uint64_t seed,
               std::span<const DrawSpec> draws);

  int64_t steps_per_epoch() const;  // ceil(N / B)
  /// Rows of step `index` in the order of an epoch's queries.
  std::span<const int64_t> batch_of(int64_t index, std::span<const int64_t> order) const;
  /// Step `index` of the epoch that has this order of queries. extra_labels: label rows that are offered as columns
  /// after the drawn positives, the same on every rank: in this order, each once, none that was drawn, at most
  /// `most_extra`. Local, thread-safe.
  BatchPlan plan(uint64_t epoch, int64_t index, std::span<const int64_t> order,
                 std::span<const int64_t> extra_labels = {}, int64_t most_extra = kAll) const;
  static constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

 private:
  void draw_labels(uint64_t epoch, BatchPlan& plan) const;
  void draw_partners(BatchPlan& plan) const;

  const Dataset* dataset_;
  NodeArray<double> weights_;  // [L]
  int64_t batch_size_;
  uint64_t seed_;
  std::span<const DrawSpec> draws_;
};

}  // namespace vixen
