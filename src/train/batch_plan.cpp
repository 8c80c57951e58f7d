// Draws batches with counted random numbers: every draw is keyed by what it is for, never by when or where it happens.
// N training queries, L labels, B rows of a batch.
#include "train/batch_plan.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/check.hpp"
#include "base/random.hpp"

namespace vixen {
namespace {

/// Terms of the loss that draw a positive: the high bits of the key.
enum class DrawTerm : uint64_t { kU = 0, kI = 1, kUv = 2, kR = 3 };

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

void shuffle(std::vector<int64_t>& items, uint64_t seed, uint64_t epoch) {
  for (size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[random_below(seed, RandomStream::kShuffle, epoch, i - 1, i)]);
}

}  // namespace

BatchPlanner::BatchPlanner(const Dataset& dataset, std::vector<double> inverse_propensity, int64_t batch_size,
                           uint64_t seed)
    : dataset_(&dataset), batch_size_(batch_size), seed_(seed) {
  VIXEN_CHECK(batch_size >= 1, "batch of {}", batch_size);
  VIXEN_CHECK(static_cast<int64_t>(inverse_propensity.size()) == dataset.labels().size(), "{} weights for {} labels",
              inverse_propensity.size(), dataset.labels().size());
  const auto& labels = dataset.train_labels();
  cumulative_.reserve(labels.values.size());
  for (int64_t row = 0; row < labels.size(); ++row) {
    double sum = 0;
    for (const int32_t label : labels[row])
      cumulative_.push_back(sum += inverse_propensity[static_cast<size_t>(label)]);
  }
}

int64_t BatchPlanner::steps_per_epoch() const {
  return (dataset_->train().size() + batch_size_ - 1) / batch_size_;
}

std::vector<int64_t> BatchPlanner::epoch_order(uint64_t epoch, const at::Tensor& leaves) const {
  const int64_t n = dataset_->train().size();
  std::vector<int64_t> order(static_cast<size_t>(n));
  if (!leaves.defined()) {
    std::iota(order.begin(), order.end(), 0);
    shuffle(order, seed_, epoch);
    return order;
  }
  VIXEN_CHECK(leaves.is_cpu() && leaves.scalar_type() == at::kInt && leaves.dim() == 1 && leaves.size(0) == n &&
                  leaves.is_contiguous(),
              "leaves must be int32 [{}] on the CPU", n);
  const auto* leaf = leaves.const_data_ptr<int32_t>();
  const int64_t n_leaves = n == 0 ? 0 : int64_t{*std::max_element(leaf, leaf + n)} + 1;
  std::vector<int64_t> clusters(static_cast<size_t>(n_leaves)), first(static_cast<size_t>(n_leaves)),
      size(static_cast<size_t>(n_leaves), 0);
  std::iota(clusters.begin(), clusters.end(), 0);
  shuffle(clusters, seed_, epoch);
  for (int64_t i = 0; i < n; ++i) {
    VIXEN_CHECK(leaf[i] >= 0, "query {} is in leaf {}", i, leaf[i]);
    ++size[static_cast<size_t>(leaf[i])];
  }
  int64_t at = 0;
  for (const int64_t cluster : clusters) {
    first[static_cast<size_t>(cluster)] = at;
    at += size[static_cast<size_t>(cluster)];
  }
  for (int64_t i = 0; i < n; ++i) order[static_cast<size_t>(first[static_cast<size_t>(leaf[i])]++)] = i;
  return order;
}

BatchPlan BatchPlanner::plan(uint64_t epoch, int64_t index, const std::vector<int64_t>& order) const {
  const auto& labels = dataset_->train_labels();
  VIXEN_CHECK(static_cast<int64_t>(order.size()) == labels.size() && index >= 0 && index < steps_per_epoch(),
              "step {} of {}, order of {} for {} queries", index, steps_per_epoch(), order.size(), labels.size());
  BatchPlan plan;
  plan.step = epoch * static_cast<uint64_t>(steps_per_epoch()) + static_cast<uint64_t>(index);
  const auto begin = order.begin() + index * batch_size_;
  plan.query_rows.assign(begin, order.begin() + std::min(labels.size(), (index + 1) * batch_size_));
  const auto b = static_cast<int64_t>(plan.query_rows.size());

  plan.label_rows.reserve(static_cast<size_t>(b));
  for (const int64_t query : plan.query_rows) {
    const auto row = labels[query];
    VIXEN_CHECK(!row.empty(), "query {} has no label", query);
    const double* weights = cumulative_.data() + labels.offsets[static_cast<size_t>(query)];
    const double target =
        random_uniform(seed_, RandomStream::kPositive, epoch, static_cast<uint64_t>(query)) * weights[row.size() - 1];
    const auto drawn = static_cast<size_t>(std::upper_bound(weights, weights + row.size(), target) - weights);
    plan.label_rows.push_back(row[std::min(drawn, row.size() - 1)]);  // rounding may give the whole sum
  }

  plan.positives = at::zeros({b, b}, at::kBool);
  auto* positives = plan.positives.mutable_data_ptr<bool>();
  for (auto* draws : {&plan.draws.u, &plan.draws.i, &plan.draws.uv, &plan.draws.r}) *draws = at::empty({b}, at::kLong);
  auto* draw_u = plan.draws.u.mutable_data_ptr<int64_t>();
  auto* draw_i = plan.draws.i.mutable_data_ptr<int64_t>();
  auto* draw_uv = plan.draws.uv.mutable_data_ptr<int64_t>();
  auto* draw_r = plan.draws.r.mutable_data_ptr<int64_t>();
  const auto draw = [&](DrawTerm term, int64_t row, size_t bound) {
    return random_below(seed_, RandomStream::kLossPositive, plan.step,
                        static_cast<uint64_t>(term) << 56 | static_cast<uint64_t>(row), bound);
  };

  const LabelColumns columns_of(plan.label_rows);
  std::vector<int32_t> columns;                    // of one row
  std::vector<std::pair<int32_t, int32_t>> pairs;  // (column, row) of every true pair, rows ascending
  std::vector<int32_t> first(static_cast<size_t>(b) + 1, 0);
  for (int64_t i = 0; i < b; ++i) {
    columns.clear();
    for (const int32_t label : labels[plan.query_rows[static_cast<size_t>(i)]])
      columns_of.for_each(label, [&](int32_t column) { columns.push_back(column); });
    for (const int32_t column : columns) {
      positives[i * b + column] = true;
      pairs.emplace_back(column, static_cast<int32_t>(i));
      ++first[static_cast<size_t>(column) + 1];
    }
    draw_u[i] = columns[draw(DrawTerm::kU, i, columns.size())];
    draw_uv[i] = columns[draw(DrawTerm::kUv, i, columns.size())];
    draw_r[i] = columns[draw(DrawTerm::kR, i, columns.size())];
  }
  // The queries of each column: a counting sort of the pairs.
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<int32_t> queries(pairs.size()), next(first.begin(), first.end() - 1);
  for (const auto& [column, row] : pairs) queries[static_cast<size_t>(next[static_cast<size_t>(column)]++)] = row;
  for (int64_t j = 0; j < b; ++j) {
    const auto from = static_cast<size_t>(first[static_cast<size_t>(j)]),
               to = static_cast<size_t>(first[static_cast<size_t>(j) + 1]);
    draw_i[j] = queries[from + draw(DrawTerm::kI, j, to - from)];
  }
  return plan;
}

}  // namespace vixen
