// Draws batches with counted random numbers: every draw is keyed by what it is for, never by when or where it happens.
// N training queries, L labels, B rows of a batch.
#include "sampling/batch_plan.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <unordered_set>

#include "base/check.hpp"
#include "base/random.hpp"

namespace vixen {
namespace {

/// Columns of a batch by label: an open-addressing table of chains, since labels repeat.
class LabelColumns {
 public:
  explicit LabelColumns(const std::vector<int64_t>& label_rows) : next_(label_rows.size(), -1) {
    const size_t capacity = std::bit_ceil(std::max<size_t>(4, label_rows.size() * 4));
    slots_.assign(capacity, {});
    mask_ = capacity - 1;
    // From the last column to the first, so that a chain lists its columns in ascending order.
    for (auto column = static_cast<int64_t>(label_rows.size()) - 1; column >= 0; --column) {
      Slot& slot = slots_[find(label_rows[static_cast<size_t>(column)])];
      slot.label = label_rows[static_cast<size_t>(column)];
      next_[static_cast<size_t>(column)] = slot.first_column;
      slot.first_column = static_cast<int32_t>(column);
    }
  }

  template <typename Visit>
  void for_each(int64_t label, Visit visit) const {
    for (int32_t column = slots_[find(label)].first_column; column >= 0; column = next_[static_cast<size_t>(column)])
      visit(column);
  }

 private:
  struct Slot {
    int64_t label = -1;
    int32_t first_column = -1;
  };

  /// The slot of the label, or the free one where it belongs.
  size_t find(int64_t label) const {
    size_t at = (static_cast<uint64_t>(label) * 0x9E3779B97F4A7C15u) >> 32 & mask_;
    while (slots_[at].label != label && slots_[at].label != -1) at = (at + 1) & mask_;
    return at;
  }

  std::vector<Slot> slots_;
  std::vector<int32_t> next_;  // [B]: the next column of the same label
  size_t mask_ = 0;
};

}  // namespace

BatchPlanner::BatchPlanner(const Dataset& dataset, NodeArray<double> inverse_propensity, int64_t batch_size,
                           uint64_t seed, std::span<const DrawSpec> draws)
    : dataset_(&dataset), weights_(std::move(inverse_propensity)), batch_size_(batch_size), seed_(seed), draws_(draws) {
  VIXEN_CHECK(batch_size >= 1, "batch of {}", batch_size);
  VIXEN_CHECK(weights_.size() == dataset.labels().size(), "{} weights for {} labels", weights_.size(),
              dataset.labels().size());
}

int64_t BatchPlanner::steps_per_epoch() const {
  return (dataset_->train().size() + batch_size_ - 1) / batch_size_;
}

std::span<const int64_t> BatchPlanner::batch_of(int64_t index, std::span<const int64_t> order) const {
  const auto begin = static_cast<size_t>(index * batch_size_);
  return order.subspan(begin, std::min(static_cast<size_t>(batch_size_), order.size() - begin));
}

BatchPlan BatchPlanner::plan(uint64_t epoch, int64_t index, std::span<const int64_t> order,
                             std::span<const int64_t> extra_labels, int64_t most_extra) const {
  const int64_t n = dataset_->train_labels().size();
  VIXEN_CHECK(static_cast<int64_t>(order.size()) == n && index >= 0 && index < steps_per_epoch(),
              "step {} of {}, order of {} for {} queries", index, steps_per_epoch(), order.size(), n);
  BatchPlan plan;
  plan.step = epoch * static_cast<uint64_t>(steps_per_epoch()) + static_cast<uint64_t>(index);
  const auto rows = batch_of(index, order);
  plan.query_rows.assign(rows.begin(), rows.end());
  draw_labels(epoch, plan);
  std::unordered_set<int64_t> there(plan.label_rows.begin(), plan.label_rows.end());
  for (const int64_t label : extra_labels) {
    if (most_extra <= 0) break;
    if (!there.insert(label).second) continue;
    plan.label_rows.push_back(label);
    --most_extra;
  }
  draw_partners(plan);
  return plan;
}

// One positive of each query, by inverse propensity.
void BatchPlanner::draw_labels(uint64_t epoch, BatchPlan& plan) const {
  const auto& labels = dataset_->train_labels();
  plan.label_rows.reserve(plan.query_rows.size());
  std::vector<double> sums;  // of the weights of a query's labels, up to each
  for (const int64_t query : plan.query_rows) {
    const auto row = labels[query];
    VIXEN_CHECK(!row.empty(), "query {} has no label", query);
    sums.clear();
    double sum = 0;
    for (const int32_t label : row) sums.push_back(sum += weights_[label]);
    const double target = random_uniform(seed_, RandomStream::kPositive, epoch, static_cast<uint64_t>(query)) * sum;
    const auto drawn = static_cast<size_t>(std::upper_bound(sums.begin(), sums.end(), target) - sums.begin());
    plan.label_rows.push_back(row[std::min(drawn, row.size() - 1)]);  // rounding may give the whole sum
  }
}

// The relevant pairs of the batch, and what the objective draws among them.
void BatchPlanner::draw_partners(BatchPlan& plan) const {
  const auto& labels = dataset_->train_labels();
  const auto b = static_cast<int64_t>(plan.query_rows.size()), m = static_cast<int64_t>(plan.label_rows.size());
  std::vector<int64_t*> drawn;
  for (const DrawSpec& spec : draws_) {
    plan.draws.push_back(at::empty({spec.side == Side::kQueries ? b : m}, at::kLong));
    drawn.push_back(plan.draws.back().mutable_data_ptr<int64_t>());
  }
  const auto draw_all = [&](Side side, int64_t row, std::span<const int32_t> partners) {
    for (size_t d = 0; d < draws_.size(); ++d) {
      if (draws_[d].side != side) continue;
      drawn[d][row] = partners.empty()
                          ? -1
                          : partners[random_below(seed_, RandomStream::kLossPositive, plan.step,
                                                  draws_[d].key << 56 | static_cast<uint64_t>(row), partners.size())];
    }
  };

  const LabelColumns columns_of(plan.label_rows);
  std::vector<int32_t> columns;                    // of one query
  std::vector<std::pair<int32_t, int32_t>> pairs;  // (column, query) of every relevant pair, queries ascending
  std::vector<int32_t> first(static_cast<size_t>(m) + 1, 0);
  for (int64_t i = 0; i < b; ++i) {
    columns.clear();
    for (const int32_t label : labels[plan.query_rows[static_cast<size_t>(i)]])
      columns_of.for_each(label, [&](int32_t column) { columns.push_back(column); });
    draw_all(Side::kQueries, i, columns);
    std::sort(columns.begin(), columns.end());
    for (const int32_t column : columns) {
      pairs.emplace_back(column, static_cast<int32_t>(i));
      ++first[static_cast<size_t>(column) + 1];
    }
  }
  const auto p = static_cast<int64_t>(pairs.size());
  plan.positives = at::empty({2, p}, at::kLong);
  auto* positives = plan.positives.mutable_data_ptr<int64_t>();
  for (int64_t pair = 0; pair < p; ++pair) {
    positives[pair] = pairs[static_cast<size_t>(pair)].second;
    positives[p + pair] = pairs[static_cast<size_t>(pair)].first;
  }
  // The queries of each column: a counting sort of the pairs.
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<int32_t> queries(pairs.size()), next(first.begin(), first.end() - 1);
  for (const auto& [column, query] : pairs) queries[static_cast<size_t>(next[static_cast<size_t>(column)]++)] = query;
  for (int64_t j = 0; j < m; ++j) {
    const auto from = static_cast<size_t>(first[static_cast<size_t>(j)]),
               to = static_cast<size_t>(first[static_cast<size_t>(j) + 1]);
    draw_all(Side::kColumns, j, std::span(queries).subspan(from, to - from));
  }
}

}  // namespace vixen
