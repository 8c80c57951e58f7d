// Batches: every query once an epoch, positives by inverse propensity, Y as brute force has it, draws among positives.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <numeric>
#include <set>

#include "fixtures/timing.hpp"
#include "fixtures/toy_dataset.hpp"
#include "train/batch_plan.hpp"

namespace vixen {
namespace {

using test::ToyOptions;

struct Plans : testing::Test {
  explicit Plans(ToyOptions options = {}) : dataset(write_toy_dataset(dir.path() / "toy.h5", options)) {
    for (int64_t i = 0; i < dataset.labels().size(); ++i) weights.push_back(1.0 + static_cast<double>(i % 7));
  }
  BatchPlanner planner(int64_t batch_size, uint64_t seed = 5) const { return {dataset, weights, batch_size, seed}; }
  bool relevant(int64_t query, int64_t label) const {
    const auto row = dataset.train_labels()[query];
    return std::find(row.begin(), row.end(), label) != row.end();
  }

  test::TempDir dir;
  Dataset dataset;
  std::vector<double> weights;
};

bool is_permutation(std::vector<int64_t> order, int64_t n) {
  std::vector<int64_t> expected(static_cast<size_t>(n));
  std::iota(expected.begin(), expected.end(), 0);
  std::sort(order.begin(), order.end());
  return order == expected;
}

TEST_F(Plans, EpochOrderIsAKeyedPermutation) {
  const auto plans = planner(10);
  const auto order = plans.epoch_order(2, {});
  EXPECT_TRUE(is_permutation(order, 96));
  EXPECT_EQ(order, plans.epoch_order(2, {}));
  EXPECT_NE(order, plans.epoch_order(3, {}));
  EXPECT_NE(order, planner(10, 6).epoch_order(2, {}));
  EXPECT_EQ(order, planner(32).epoch_order(2, {})) << "the order does not depend on the batch size";
}

TEST_F(Plans, ShuffleIsUniform) {
  // Where query 0 goes, over many epochs: chi-square with 95 degrees of freedom, mean 95, sigma 13.8.
  constexpr int kEpochs = 9600;
  std::vector<int> count(96, 0);
  const auto plans = planner(10);
  for (uint64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order = plans.epoch_order(epoch, {});
    ++count[static_cast<size_t>(std::find(order.begin(), order.end(), 0) - order.begin())];
  }
  double chi_square = 0;
  for (const int c : count) chi_square += (c - 100.0) * (c - 100.0) / 100.0;
  EXPECT_LT(chi_square, 95 + 4.5 * 13.8);
  EXPECT_GT(chi_square, 95 - 4.5 * 13.8);
}

TEST_F(Plans, ClustersStayTogether) {
  at::Tensor leaves = at::empty({96}, at::kInt);
  for (int i = 0; i < 96; ++i)
    leaves.mutable_data_ptr<int32_t>()[i] = (i * 5) % 12 == 3 ? 0 : (i * 5) % 12;  // leaf 3 is empty
  const auto plans = planner(10);
  const auto order = plans.epoch_order(1, leaves);
  EXPECT_TRUE(is_permutation(order, 96));
  std::vector<int32_t> runs;
  for (size_t i = 0; i < order.size(); ++i) {
    const int32_t leaf = leaves.const_data_ptr<int32_t>()[order[i]];
    if (runs.empty() || runs.back() != leaf) {
      runs.push_back(leaf);
    } else {
      EXPECT_LT(order[i - 1], order[i]) << "queries of a cluster by row number";
    }
  }
  EXPECT_EQ(runs.size(), 11u);
  EXPECT_EQ(std::set<int32_t>(runs.begin(), runs.end()).size(), runs.size()) << "a cluster is one run";
  EXPECT_FALSE(std::is_sorted(runs.begin(), runs.end()));
  EXPECT_NE(order, plans.epoch_order(2, leaves));
  EXPECT_EQ(order, plans.epoch_order(1, leaves));
}

TEST_F(Plans, LastBatchIsKept) {
  const auto plans = planner(36);
  EXPECT_EQ(plans.steps_per_epoch(), 3);
  const auto order = plans.epoch_order(4, {});
  std::vector<int64_t> seen;
  for (int64_t index = 0; index < 3; ++index) {
    const BatchPlan plan = plans.plan(4, index, order);
    EXPECT_EQ(plan.step, 4u * 3u + static_cast<uint64_t>(index));
    EXPECT_EQ(plan.query_rows.size(), index < 2 ? 36u : 24u);
    EXPECT_EQ(plan.label_rows.size(), plan.query_rows.size());
    EXPECT_EQ(plan.positives.size(0), static_cast<int64_t>(plan.query_rows.size()));
    seen.insert(seen.end(), plan.query_rows.begin(), plan.query_rows.end());
  }
  EXPECT_EQ(seen, order);
  EXPECT_EQ(planner(96).steps_per_epoch(), 1);
  EXPECT_EQ(planner(500).steps_per_epoch(), 1);
}

TEST_F(Plans, PositivesMatchBruteForceAndDrawsArePositive) {
  const auto plans = planner(50);
  size_t duplicates = 0;
  for (uint64_t epoch = 0; epoch < 5; ++epoch) {
    const auto order = plans.epoch_order(epoch, {});
    for (int64_t index = 0; index < plans.steps_per_epoch(); ++index) {
      const BatchPlan plan = plans.plan(epoch, index, order);
      const auto b = static_cast<int64_t>(plan.query_rows.size());
      duplicates += plan.label_rows.size() - std::set<int64_t>(plan.label_rows.begin(), plan.label_rows.end()).size();
      ASSERT_EQ(plan.positives.scalar_type(), at::kBool);
      ASSERT_EQ(plan.draws.i.scalar_type(), at::kLong);
      const auto y = plan.positives.accessor<bool, 2>();
      for (int64_t i = 0; i < b; ++i)
        for (int64_t j = 0; j < b; ++j)
          ASSERT_EQ(y[i][j],
                    relevant(plan.query_rows[static_cast<size_t>(i)], plan.label_rows[static_cast<size_t>(j)]));
      for (int64_t i = 0; i < b; ++i) {
        ASSERT_TRUE(y[i][i]);
        for (const at::Tensor& draw : {plan.draws.u, plan.draws.uv, plan.draws.r})
          ASSERT_TRUE(y[i][draw[i].item<int64_t>()]);
        ASSERT_TRUE(y[plan.draws.i[i].item<int64_t>()][i]) << "the drawn query of column " << i;
      }
    }
  }
  EXPECT_GT(duplicates, 20u) << "the case of repeated labels must occur";
}

TEST_F(Plans, ThePlanIsAFunctionOfItsKeys) {
  const auto plans = planner(40);
  const auto order = plans.epoch_order(1, {});
  const BatchPlan a = plans.plan(1, 1, order), b = planner(40).plan(1, 1, order);
  EXPECT_EQ(a.label_rows, b.label_rows);
  EXPECT_TRUE(at::equal(a.positives, b.positives));
  EXPECT_TRUE(at::equal(a.draws.u, b.draws.u) && at::equal(a.draws.i, b.draws.i) && at::equal(a.draws.uv, b.draws.uv) &&
              at::equal(a.draws.r, b.draws.r));
  EXPECT_FALSE(at::equal(a.draws.u, a.draws.uv)) << "terms draw independently";
  EXPECT_FALSE(at::equal(a.draws.u, a.draws.r));
  EXPECT_FALSE(at::equal(a.draws.uv, a.draws.r));
  EXPECT_NE(a.label_rows, planner(40, 6).plan(1, 1, order).label_rows);
  EXPECT_NE(a.label_rows, plans.plan(2, 1, order).label_rows);
}

TEST_F(Plans, PositiveLabelsFollowTheirWeights) {
  // Chi-square over all (query, label) pairs of many epochs, against weight / sum of the query's weights.
  constexpr uint64_t kEpochs = 2000;
  const auto plans = planner(96);
  std::vector<int64_t> order(96);
  std::iota(order.begin(), order.end(), 0);
  std::vector<std::vector<double>> count(96, std::vector<double>(40, 0));
  for (uint64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const BatchPlan plan = plans.plan(epoch, 0, order);
    for (size_t i = 0; i < 96; ++i) ++count[i][static_cast<size_t>(plan.label_rows[i])];
  }
  double chi_square = 0, freedom = 0;
  for (size_t i = 0; i < 96; ++i) {
    const auto row = dataset.train_labels()[static_cast<int64_t>(i)];
    double sum = 0;
    for (const int32_t label : row) sum += weights[static_cast<size_t>(label)];
    for (const int32_t label : row) {
      const double expected = kEpochs * weights[static_cast<size_t>(label)] / sum;
      const double found = count[i][static_cast<size_t>(label)];
      chi_square += (found - expected) * (found - expected) / expected;
    }
    freedom += static_cast<double>(row.size()) - 1;
  }
  EXPECT_GT(freedom, 50);
  EXPECT_LT(std::abs(chi_square - freedom), 4.5 * std::sqrt(2 * freedom));
}

TEST_F(Plans, LossDrawsAreUniformOverColumns) {
  // One batch drawn at many steps: u, uv, r over the positive columns of a row (duplicates apart), i over the queries
  // of a column. The batch itself differs from epoch to epoch, so counts are normalised by rank among the positives.
  constexpr uint64_t kEpochs = 400;
  const auto plans = planner(96);
  std::vector<int64_t> order(96);
  std::iota(order.begin(), order.end(), 0);
  double chi_square[4] = {}, freedom[4] = {};
  // For rows with exactly m positives, the rank of the draw is uniform in 0..m-1.
  constexpr int64_t kMost = 40;
  std::vector<std::vector<double>> counts(4 * kMost);
  for (int64_t m = 1; m < kMost; ++m)
    for (int64_t t = 0; t < 4; ++t) counts[static_cast<size_t>(t * kMost + m)].assign(static_cast<size_t>(m), 0);
  for (uint64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const BatchPlan plan = plans.plan(epoch, 0, order);
    const auto y = plan.positives.accessor<bool, 2>();
    const at::Tensor draws[] = {plan.draws.u, plan.draws.uv, plan.draws.r, plan.draws.i};
    for (size_t t = 0; t < 4; ++t)
      for (int64_t i = 0; i < 96; ++i) {
        const int64_t drawn = draws[t].const_data_ptr<int64_t>()[i];
        int64_t rank = 0, m = 0;
        for (int64_t j = 0; j < 96; ++j) {
          const bool positive = t < 3 ? y[i][j] : y[j][i];
          rank += positive && j < drawn;
          m += positive;
        }
        if (m < kMost) ++counts[t * kMost + static_cast<size_t>(m)][static_cast<size_t>(rank)];
      }
  }
  for (size_t t = 0; t < 4; ++t) {
    for (int64_t m = 2; m < kMost; ++m) {
      const auto& row = counts[t * kMost + static_cast<size_t>(m)];
      const double expected = std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(m);
      if (expected < 10) continue;
      for (const double found : row) chi_square[t] += (found - expected) * (found - expected) / expected;
      freedom[t] += static_cast<double>(m) - 1;
    }
    EXPECT_GT(freedom[t], 20) << "term " << t;
    EXPECT_LT(std::abs(chi_square[t] - freedom[t]), 4.5 * std::sqrt(2 * freedom[t])) << "term " << t;
  }
}

struct LargePlans : Plans {
  static ToyOptions options() {
    ToyOptions options;
    options.n_train = 4096;
    options.n_labels = 5000;
    options.max_labels = 40;
    options.n_test = 1;
    return options;
  }
  LargePlans() : Plans(options()) {}
};

TEST_F(LargePlans, APlanTakesMilliseconds) {
  const auto plans = planner(2048);
  const auto order = plans.epoch_order(0, {});
  const double best_ms = test::best_milliseconds([&](int repeat) {
    const BatchPlan plan = plans.plan(0, repeat % 2, order);
    ASSERT_EQ(plan.query_rows.size(), 2048u);
  });
  RecordProperty("best_ms", fmt::format("{:.2f}", best_ms));
  fmt::print("a plan of 2048 queries with about 20 labels each in {:.2f} ms\n", best_ms);
  EXPECT_LT(best_ms, 30);
}

}  // namespace
}  // namespace vixen
