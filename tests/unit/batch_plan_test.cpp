// Batches: every query once an epoch, positives by inverse propensity, Y as brute force has it, draws among positives.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <numeric>
#include <set>

#include "fixtures/orders.hpp"
#include "fixtures/pairs.hpp"
#include "fixtures/timing.hpp"
#include "fixtures/toy_dataset.hpp"
#include "sampling/batch_plan.hpp"
#include "sampling/clustered.hpp"
#include "sampling/shuffled.hpp"

namespace vixen {
namespace {

using test::ToyOptions;

struct Plans : testing::Test {
  explicit Plans(ToyOptions options = {}) : dataset(write_toy_dataset(dir.path() / "toy.h5", options)) {
    for (int64_t i = 0; i < dataset.labels().size(); ++i) weights.push_back(1.0 + static_cast<double>(i % 7));
  }
  BatchPlanner planner(int64_t batch_size, uint64_t seed = 5) const {
    return {dataset, weights, batch_size, seed, prime->draws()};
  }
  std::vector<int64_t> shuffled(uint64_t epoch, uint64_t seed = 5) const {
    return test::shuffled_order(dataset.train().size(), seed, epoch);
  }
  bool relevant(int64_t query, int64_t label) const {
    const auto row = dataset.train_labels()[query];
    return std::find(row.begin(), row.end(), label) != row.end();
  }

  test::TempDir dir;
  Dataset dataset;
  std::vector<double> weights;
  std::unique_ptr<Objective> prime = make_objective(Method::kPrime, LossConfig{});  // draws u, i, uv, r
};

enum Draw { kU, kI, kUv, kR };

at::Tensor dense_positives(const BatchPlan& plan) {
  return test::dense_of(plan.positives, static_cast<int64_t>(plan.query_rows.size()),
                        static_cast<int64_t>(plan.label_rows.size()));
}

bool is_permutation(std::vector<int64_t> order, int64_t n) {
  std::vector<int64_t> expected(static_cast<size_t>(n));
  std::iota(expected.begin(), expected.end(), 0);
  std::sort(order.begin(), order.end());
  return order == expected;
}

TEST_F(Plans, EpochOrderIsAKeyedPermutation) {
  const auto order = shuffled(2);
  EXPECT_TRUE(is_permutation(order, 96));
  EXPECT_EQ(order, shuffled(2));
  EXPECT_NE(order, shuffled(3));
  EXPECT_NE(order, shuffled(2, 6));
}

TEST_F(Plans, ShuffleIsUniform) {
  // Where query 0 goes, over many epochs: chi-square with 95 degrees of freedom, mean 95, sigma 13.8.
  constexpr int kEpochs = 9600;
  std::vector<int> count(96, 0);
  for (uint64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order = shuffled(epoch);
    ++count[static_cast<size_t>(std::find(order.begin(), order.end(), 0) - order.begin())];
  }
  double chi_square = 0;
  for (const int c : count) chi_square += (c - 100.0) * (c - 100.0) / 100.0;
  EXPECT_LT(chi_square, 95 + 4.5 * 13.8);
  EXPECT_GT(chi_square, 95 - 4.5 * 13.8);
}

TEST_F(Plans, ClustersStayTogether) {
  std::vector<int32_t> leaves(96);
  for (int i = 0; i < 96; ++i)
    leaves[static_cast<size_t>(i)] = (i * 5) % 12 == 3 ? 0 : (i * 5) % 12;  // leaf 3 is empty
  const auto order_of = [&](uint64_t epoch) {
    std::vector<int64_t> filled(96);
    fill_clustered_order(leaves, 5, epoch, filled);
    return filled;
  };
  const auto order = order_of(1);
  EXPECT_TRUE(is_permutation(order, 96));
  std::vector<int32_t> runs;
  for (size_t i = 0; i < order.size(); ++i) {
    const int32_t leaf = leaves[static_cast<size_t>(order[i])];
    if (runs.empty() || runs.back() != leaf) {
      runs.push_back(leaf);
    } else {
      EXPECT_LT(order[i - 1], order[i]) << "queries of a cluster by row number";
    }
  }
  EXPECT_EQ(runs.size(), 11u);
  EXPECT_EQ(std::set<int32_t>(runs.begin(), runs.end()).size(), runs.size()) << "a cluster is one run";
  EXPECT_FALSE(std::is_sorted(runs.begin(), runs.end()));
  EXPECT_NE(order, order_of(2));
  EXPECT_EQ(order, order_of(1));
}

TEST_F(Plans, LastBatchIsKept) {
  const auto plans = planner(36);
  EXPECT_EQ(plans.steps_per_epoch(), 3);
  const auto order = shuffled(4);
  std::vector<int64_t> seen;
  for (int64_t index = 0; index < 3; ++index) {
    const BatchPlan plan = plans.plan(4, index, order);
    EXPECT_EQ(plan.step, 4u * 3u + static_cast<uint64_t>(index));
    EXPECT_EQ(plan.query_rows.size(), index < 2 ? 36u : 24u);
    EXPECT_EQ(plan.label_rows.size(), plan.query_rows.size());
    EXPECT_EQ(plan.positives.size(0), 2);
    EXPECT_EQ(plan.draws[kU].size(0), static_cast<int64_t>(plan.query_rows.size()));
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
    const auto order = shuffled(epoch);
    for (int64_t index = 0; index < plans.steps_per_epoch(); ++index) {
      const BatchPlan plan = plans.plan(epoch, index, order);
      const auto b = static_cast<int64_t>(plan.query_rows.size());
      duplicates += plan.label_rows.size() - std::set<int64_t>(plan.label_rows.begin(), plan.label_rows.end()).size();
      ASSERT_EQ(plan.positives.scalar_type(), at::kLong);
      ASSERT_EQ(plan.draws[kI].scalar_type(), at::kLong);
      const auto dense = dense_positives(plan);
      ASSERT_TRUE(test::pairs_of(dense).equal(plan.positives)) << "by query, then by column, each once";
      const auto y = dense.accessor<bool, 2>();
      for (int64_t i = 0; i < b; ++i)
        for (int64_t j = 0; j < b; ++j)
          ASSERT_EQ(y[i][j],
                    relevant(plan.query_rows[static_cast<size_t>(i)], plan.label_rows[static_cast<size_t>(j)]));
      for (int64_t i = 0; i < b; ++i) {
        ASSERT_TRUE(y[i][i]);
        for (const at::Tensor& draw : {plan.draws[kU], plan.draws[kUv], plan.draws[kR]})
          ASSERT_TRUE(y[i][draw[i].item<int64_t>()]);
        ASSERT_TRUE(y[plan.draws[kI][i].item<int64_t>()][i]) << "the drawn query of column " << i;
      }
    }
  }
  EXPECT_GT(duplicates, 20u) << "the case of repeated labels must occur";
}

TEST_F(Plans, ThePlanIsAFunctionOfItsKeys) {
  const auto plans = planner(40);
  const auto order = shuffled(1);
  const BatchPlan a = plans.plan(1, 1, order), b = planner(40).plan(1, 1, order);
  EXPECT_EQ(a.label_rows, b.label_rows);
  EXPECT_TRUE(at::equal(a.positives, b.positives));
  for (size_t d = 0; d < a.draws.size(); ++d) EXPECT_TRUE(at::equal(a.draws[d], b.draws[d])) << d;
  EXPECT_FALSE(at::equal(a.draws[kU], a.draws[kUv])) << "terms draw independently";
  EXPECT_FALSE(at::equal(a.draws[kU], a.draws[kR]));
  EXPECT_FALSE(at::equal(a.draws[kUv], a.draws[kR]));
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
    const auto dense = dense_positives(plan);
    const auto y = dense.accessor<bool, 2>();
    const at::Tensor draws[] = {plan.draws[kU], plan.draws[kUv], plan.draws[kR], plan.draws[kI]};
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

// Extra columns come after the drawn positives, and the full ground truth decides about them.
TEST_F(Plans, ExtraColumnsJoinTheBatch) {
  const auto plans = planner(12);
  const auto order = shuffled(1);
  const BatchPlan plain = plans.plan(1, 0, order);
  std::vector<int64_t> extra(static_cast<size_t>(dataset.labels().size()));
  std::iota(extra.begin(), extra.end(), 0);
  const BatchPlan plan = plans.plan(1, 0, order, extra);
  EXPECT_EQ(plan.query_rows, plain.query_rows);
  const std::set<int64_t> there(plain.label_rows.begin(), plain.label_rows.end());
  ASSERT_EQ(plan.label_rows.size(), 12 + extra.size() - there.size()) << "a label of the batch is not added again";
  EXPECT_TRUE(std::equal(plain.label_rows.begin(), plain.label_rows.end(), plan.label_rows.begin()));
  const auto m = static_cast<int64_t>(plan.label_rows.size());
  const auto dense = dense_positives(plan);
  const auto y = dense.accessor<bool, 2>();
  int64_t unasked = 0;
  for (int64_t j = 0; j < m; ++j) {
    bool asked = false;
    for (int64_t i = 0; i < 12; ++i) {
      ASSERT_EQ(y[i][j], relevant(plan.query_rows[static_cast<size_t>(i)], plan.label_rows[static_cast<size_t>(j)]));
      asked |= y[i][j];
    }
    const int64_t drawn = plan.draws[kI][j].item<int64_t>();
    if (asked)
      ASSERT_TRUE(y[drawn][j]);
    else
      ASSERT_EQ(drawn, -1) << "a column that no query of the batch asks for";
    unasked += !asked;
  }
  EXPECT_GT(unasked, 0);
  EXPECT_LT(unasked, m - 12);
  for (const Draw draw : {kU, kUv, kR}) EXPECT_EQ(plan.draws[draw].size(0), 12);
}

// Only what the objective asks for is drawn.
TEST_F(Plans, DrawsAreThoseOfTheObjective) {
  const auto ngame = make_objective(Method::kNgame, LossConfig{});
  const BatchPlanner plans(dataset, weights, 12, 5, ngame->draws());
  EXPECT_TRUE(plans.plan(1, 0, shuffled(1)).draws.empty());
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
  const auto order = shuffled(0);
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
