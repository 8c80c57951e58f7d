// Metrics worked out by hand, rows without labels, short lists, the filter, the deciles, and sums over ranks.
#include "eval/metrics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/check.hpp"

namespace vixen {
namespace {

using Ids = std::vector<int64_t>;
using Truth = std::vector<int32_t>;

TEST(Metrics, InversePropensityFollowsTheFormula) {
  const Ids counts = {0, 1, 100};
  std::vector<double> weights;
  for (const int64_t count : counts) weights.push_back(inverse_propensity(count, 1000, 0.55, 1.5));
  const double c = (std::log(1000.0) - 1) * std::pow(2.5, 0.55);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_DOUBLE_EQ(weights[i], 1 + c * std::pow(static_cast<double>(counts[i]) + 1.5, -0.55));
  }
  EXPECT_GT(weights[0], weights[1]);
  EXPECT_GT(weights[1], weights[2]);
}

TEST(Metrics, NoWeightIsBelowOne) {
  for (const int64_t n_train : {1, 2, 3})
    for (const int64_t count : {0, 1, 2}) EXPECT_GE(inverse_propensity(count, n_train, 0.55, 1.5), 1) << n_train;
}

TEST(Metrics, ALabelTwiceIsABugOfTheCaller) {
  Metrics metrics(LabelTable::of({1, 1, 1}, {1, 1, 1}));
  metrics.add(Ids{0, 0, 0}, Truth{0});
  EXPECT_THROW(metrics.result(), BugError);
}

TEST(Metrics, StayBetween0And100) {
  // Every ordered choice of up to 5 of 5 labels against every truth.
  const std::vector<double> weights = {1, 2.5, 4, 7, 60};
  for (unsigned truth_bits = 0; truth_bits < 32; ++truth_bits) {
    Truth truth;
    for (int32_t i = 0; i < 5; ++i)
      if ((truth_bits >> i & 1) != 0) truth.push_back(i);
    Ids order = {0, 1, 2, 3, 4};
    do {
      for (size_t length = 0; length <= 5; ++length) {
        Metrics metrics(LabelTable::of(weights, {5, 4, 3, 2, 1}));
        metrics.add(std::span(order).first(length), truth);
        for (const auto& [name, value] : metrics.result()) {
          ASSERT_GE(value, 0) << name;
          ASSERT_LE(value, 100) << name;
        }
      }
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

TEST(Metrics, OneQueryByHand) {
  Metrics metrics(LabelTable::of({1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1}));
  metrics.add(Ids{3, 0, 5, 1, 2, 4}, Truth{0, 4, 5});  // hits at places 2, 3 and 6
  const auto r = metrics.result();
  EXPECT_DOUBLE_EQ(r.at("P@1"), 0);
  EXPECT_DOUBLE_EQ(r.at("P@2"), 50);
  EXPECT_DOUBLE_EQ(r.at("P@3"), 200.0 / 3);
  EXPECT_DOUBLE_EQ(r.at("P@5"), 40);
  EXPECT_DOUBLE_EQ(r.at("R@3"), 200.0 / 3);
  EXPECT_DOUBLE_EQ(r.at("R@10"), 100);
  EXPECT_DOUBLE_EQ(r.at("R@100"), 100);
  EXPECT_DOUBLE_EQ(r.at("MRR"), 50);
  EXPECT_NEAR(r.at("MAP"), 100 * (1.0 / 2 + 2.0 / 3 + 3.0 / 6) / 3, 1e-12);
  const double d1 = 1, d2 = 1 / std::log2(3.0), d3 = 0.5;
  EXPECT_NEAR(r.at("nDCG@2"), 100 * d2 / (d1 + d2), 1e-12);
  EXPECT_NEAR(r.at("nDCG@5"), 100 * (d2 + d3) / (d1 + d2 + d3), 1e-12);
  // Weights of the row's labels: 6 (label 5), 5 (label 4), 1 (label 0).
  EXPECT_NEAR(r.at("PSP@2"), 100 * 1.0 / 11, 1e-12);
  EXPECT_NEAR(r.at("PSP@3"), 100 * 7.0 / 12, 1e-12);
  EXPECT_NEAR(r.at("PSP@5"), 100 * 7.0 / 12, 1e-12);
  EXPECT_NEAR(r.at("PSnDCG@3"), 100 * (1 * d2 + 6 * d3) / (6 * d1 + 5 * d2 + 1 * d3), 1e-12);
}

TEST(Metrics, RowsWithoutLabelsCountAsZero) {
  Metrics metrics(LabelTable::of({1, 1}, {1, 1}));
  metrics.add(Ids{0}, Truth{0});
  metrics.add(Ids{0, 1}, Truth{});
  const auto r = metrics.result();
  EXPECT_DOUBLE_EQ(r.at("P@1"), 50);
  EXPECT_DOUBLE_EQ(r.at("R@1"), 50);
  EXPECT_DOUBLE_EQ(r.at("nDCG@1"), 50);
  EXPECT_DOUBLE_EQ(r.at("MRR"), 50) << "a row without a hit adds nothing";
  EXPECT_DOUBLE_EQ(r.at("PSP@1"), 100) << "a ratio of means: the blank row adds to neither";
}

TEST(Metrics, MinusOneEndsTheList) {
  Metrics metrics(LabelTable::of({1, 1, 1}, {1, 1, 1}));
  metrics.add(Ids{1, -1, 0}, Truth{0});
  metrics.add(Ids{}, Truth{0});
  const auto r = metrics.result();
  EXPECT_DOUBLE_EQ(r.at("R@100"), 0);
  EXPECT_DOUBLE_EQ(r.at("MRR"), 0);
}

TEST(Metrics, NothingAddedGivesZerosNotNan) {
  Metrics metrics(LabelTable::of({1}, {1}));
  for (const auto& [name, value] : metrics.result()) EXPECT_EQ(value, 0) << name;
  for (const auto& bin : metrics.bins()) EXPECT_EQ(bin.recall_at_5, 0);
}

TEST(Metrics, DepthIsCutWhereTheNameSays) {
  std::vector<double> weights(200, 1.0);
  Metrics metrics(LabelTable::of(weights, std::vector<int64_t>(200, 1)));
  Ids list(150);
  for (size_t i = 0; i < list.size(); ++i) list[i] = static_cast<int64_t>(i);
  metrics.add(list, Truth{9, 10, 99, 100});
  const auto r = metrics.result();
  EXPECT_DOUBLE_EQ(r.at("R@5"), 0);
  EXPECT_DOUBLE_EQ(r.at("R@10"), 25);
  EXPECT_DOUBLE_EQ(r.at("R@100"), 75);
}

TEST(Metrics, SumsOfRanksAddUp) {
  const std::vector<double> weights = {3, 1, 2, 5};
  const Ids counts = {4, 9, 2, 1};
  const auto labels = LabelTable::of(weights, counts);
  Metrics whole(labels), first(labels), second(labels);
  const std::vector<std::pair<Ids, Truth>> rows = {{{0, 1, 2}, {1}}, {{3, 2}, {0, 3}}, {{1, 0, 3}, {}}, {{2}, {1, 2}}};
  for (size_t i = 0; i < rows.size(); ++i) {
    whole.add(rows[i].first, rows[i].second);
    (i < 1 ? first : second).add(rows[i].first, rows[i].second);
  }
  auto sums = first.sums();
  const auto other = second.sums();
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += other[i];
  first.set_sums(sums);
  for (const auto& [name, value] : whole.result()) EXPECT_NEAR(first.result().at(name), value, 1e-12) << name;
  EXPECT_EQ(first.bins()[0].pairs, whole.bins()[0].pairs);
}

TEST(Metrics, DecilesHoldLabelsFromRareToFrequent) {
  Ids counts(20);
  for (size_t i = 0; i < 20; ++i) counts[i] = static_cast<int64_t>(20 - i);  // label 19 is the rarest
  Metrics metrics(LabelTable::of(std::vector<double>(20, 1.0), counts));
  metrics.add(Ids{19, 0, 1, 2, 3, 18}, Truth{0, 10, 18, 19});
  const auto bins = metrics.bins();
  ASSERT_EQ(bins.size(), 10u);
  for (const auto& bin : bins) EXPECT_EQ(bin.labels, 2);
  EXPECT_EQ(bins[0].min_count, 1);
  EXPECT_EQ(bins[0].max_count, 2);
  EXPECT_EQ(bins[9].max_count, 20);
  EXPECT_EQ(bins[0].pairs, 2);
  EXPECT_EQ(bins[0].hits_at_5, 1) << "label 18 stands at place 6";
  EXPECT_DOUBLE_EQ(bins[0].recall_at_5, 50);
  EXPECT_DOUBLE_EQ(bins[0].precision_at_5, 20);
  EXPECT_EQ(bins[9].hits_at_5, 1);
}

TEST(ApplyFilter, BeforeTheCutKeepsKAfterItFewer) {
  const Ids predicted = {5, 4, 3, 2, 1, 0};
  const Truth filter = {2, 5};
  EXPECT_EQ(apply_filter(predicted, filter, 4, false, 15), (Ids{4, 3, 1, 0}));
  EXPECT_EQ(apply_filter(predicted, filter, 100, true, 4), (Ids{4, 3}));
  EXPECT_EQ(apply_filter(predicted, Truth{}, 2, false, 15), (Ids{5, 4}));
  EXPECT_EQ(apply_filter(Ids{5, 1, -1, 0}, filter, 4, false, 15), (Ids{1}));
}

}  // namespace
}  // namespace vixen
