// The rules by which a found label is a negative, the draws of a list, and the hand-over of offers to the thread that
// packs batches.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <thread>

#include "data/handover.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/single_rank.hpp"
#include "mining/candidates.hpp"
#include "mining/mined_lists.hpp"
#include "mining/same_labels.hpp"
#include "train/cadence.hpp"

namespace vixen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Token rows of made-up tables.
struct Table {
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> values;
  explicit Table(const std::vector<std::vector<int32_t>>& rows) {
    for (const auto& row : rows) {
      values.insert(values.end(), row.begin(), row.end());
      offsets.push_back(static_cast<int64_t>(values.size()));
    }
  }
  SequenceTable view() const { return {.tokens = {offsets, values}, .images = {}, .texts = {}}; }
};

TEST(ScoreLimit, IsTheLowerOfTheMargins) {
  MiningConfig config;
  EXPECT_EQ(score_limit(config, 0.5F), kInfinity);
  EXPECT_EQ(score_limit(config, kInfinity), kInfinity);
  config.relative_margin = 0.8;
  EXPECT_FLOAT_EQ(score_limit(config, 0.5F), 0.4F);
  EXPECT_FLOAT_EQ(score_limit(config, -0.5F), -0.6F) << "a factor of a negative score moves it down too";
  EXPECT_EQ(score_limit(config, kInfinity), kInfinity) << "a query without relevant labels drops nothing";
  config.absolute_margin = 0.3;
  EXPECT_FLOAT_EQ(score_limit(config, 0.5F), 0.2F);
  config.relative_margin = 1;
  config.absolute_margin = 0;
  EXPECT_FLOAT_EQ(score_limit(config, 0.5F), 0.5F);
}

TEST(KeepNegatives, EachRuleDropsItsOwn) {
  // Labels 0 and 3 read alike, 5 reads like the query.
  const Table labels({{1, 10, 2}, {1, 11, 2}, {1, 12, 2}, {1, 10, 2}, {1, 14, 2}, {1, 20, 2}, {1, 16, 2}});
  const Table queries({{1, 20, 2}});
  const auto label_table = labels.view(), query_table = queries.view();
  const SameTextRule text(query_table, label_table);
  const std::vector<int64_t> found = {2, 0, 3, 5, 1, 4, 6, -1};
  const std::vector<float> scores = {0.9F, 0.8F, 0.7F, 0.6F, 0.5F, 0.4F, 0.3F, -kInfinity};
  const std::vector<int32_t> relevant = {0};
  std::vector<int32_t> ids(found.size());
  std::vector<float> kept(found.size());
  std::vector<int32_t> places(found.size());
  MinedCounts counts;
  keep_negatives(found, scores, 0, relevant, 0.45F, 1, &text, {ids, kept, places}, counts);
  EXPECT_EQ(ids, (std::vector<int32_t>{4, 6, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(kept[0], 0.4F);
  EXPECT_EQ(kept[1], 0.3F);
  EXPECT_EQ(kept[2], -kInfinity);
  EXPECT_EQ(places, (std::vector<int32_t>{6, 7, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(counts.queries, 1);
  EXPECT_EQ(counts.skipped, 1) << "2";
  EXPECT_EQ(counts.relevant, 1) << "0";
  EXPECT_EQ(counts.same_text, 2) << "3 and 5";
  EXPECT_EQ(counts.margin, 1) << "1";
  EXPECT_EQ(counts.kept, 2);

  MinedCounts all;
  keep_negatives(found, scores, 0, relevant, kInfinity, 0, nullptr, {ids, kept, places}, all);
  EXPECT_EQ(ids, (std::vector<int32_t>{2, 3, 5, 1, 4, 6, -1, -1})) << "relevant labels alone are always taken out";
  counts.add(all);
  EXPECT_EQ(counts.queries, 2);
  EXPECT_EQ(counts.kept, 8);
}

TEST(SameLabels, AreThoseOfEqualTokens) {
  const Table labels({{1, 10, 2}, {1, 11, 2}, {1, 10, 11, 2}, {1, 12, 2}});
  const Table corpus({{1, 12, 2}, {1, 11, 2}, {1, 10, 2}, {1, 13, 2}, {1, 11, 2}, {1, 10, 10, 2}});
  const SameLabels same(labels.view(), corpus.view());
  const std::vector<int64_t> offsets = {0, 1, 3, 3, 6, 7};
  const std::vector<int32_t> relevant = {0, 0, 1, 0, 1, 3, 2};
  const auto rows = [&](RowRange range) {
    const auto found = same.of({offsets, relevant}, range);
    std::vector<std::vector<int32_t>> all;
    for (int64_t row = 0; row < found.view().size(); ++row)
      all.emplace_back(found.view()[row].begin(), found.view()[row].end());
    return all;
  };
  using Rows = std::vector<std::vector<int32_t>>;
  EXPECT_EQ(rows({0, 5}), (Rows{{2}, {1, 2, 4}, {}, {0, 1, 2, 4}, {}}));
  EXPECT_EQ(rows({1, 3}), (Rows{{1, 2, 4}, {}})) << "of a part of the rows";
  EXPECT_EQ(rows({2, 2}), Rows{});
}

class Lists : public ::testing::Test {
 protected:
  static Config config(MiningDraw draw, int64_t columns = 8) {
    Config config;
    config.mining.columns = columns;
    config.mining.depth = 6;
    config.mining.draw = draw;
    config.loss.temperature = 0.5;
    return config;
  }
  // Query i lists 10 i, 10 i + 1, ... with scores that fall by 0.5; the last query has two labels only.
  void fill(MinedLists& lists) {
    MinedBlock block{0, at::full({4, 6}, -1, at::kInt), at::full({4, 6}, -kInfinity), {}, {}};
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < (i == 3 ? 2 : 6); ++j) {
        block.ids[i][j] = 10 * i + j;
        block.scores[i][j] = 1 - 0.5 * static_cast<double>(j);
      }
    lists.assign(block);
  }
  test::SingleRank comm_;
};

TEST_F(Lists, OfferTheHardestOfEveryQueryFirst) {
  MinedLists lists(config(MiningDraw::kHardest), 4, comm_);
  const std::vector<int64_t> batch = {2, 0, 3};
  EXPECT_TRUE(lists.offers(5, batch).empty()) << "before the first mining";
  fill(lists);
  const auto offers = lists.offers(5, batch);
  ASSERT_EQ(offers.size(), 6U + 6U + 2U);
  EXPECT_EQ(std::set<int64_t>(offers.begin(), offers.begin() + 3), (std::set<int64_t>{20, 0, 30}));
  EXPECT_EQ(std::set<int64_t>(offers.begin() + 3, offers.begin() + 6), (std::set<int64_t>{21, 1, 31}));
  EXPECT_EQ(std::set<int64_t>(offers.begin() + 6, offers.begin() + 8), (std::set<int64_t>{22, 2}));
  EXPECT_EQ(offers, lists.offers(5, batch));
  std::set<std::vector<int64_t>> turns;
  for (uint64_t step = 0; step < 30; ++step) turns.insert(lists.offers(step, batch));
  EXPECT_EQ(turns.size(), 6U) << "whose turn is first changes from step to step";
  EXPECT_TRUE(lists.offers(5, {}).empty());
  // One column a batch of three: of each query at most the first four are offered.
  MinedLists few(config(MiningDraw::kHardest, 1), 4, comm_);
  fill(few);
  EXPECT_EQ(few.offers(5, batch).size(), 4U + 4U + 2U);
}

TEST_F(Lists, DrawsFollowTheirWeights) {
  constexpr int kDraws = 20000;
  for (const auto draw : {MiningDraw::kUniform, MiningDraw::kScore}) {
    MinedLists lists(config(draw), 4, comm_);
    fill(lists);
    std::map<int64_t, int> first;
    for (uint64_t step = 0; step < kDraws; ++step) {
      const auto offers = lists.offers(step, std::vector<int64_t>{1});
      ASSERT_EQ(std::set<int64_t>(offers.begin(), offers.end()).size(), 6U) << "without replacement";
      ++first[offers.front()];
    }
    double all = 0;
    for (int j = 0; j < 6; ++j) all += std::exp(-j);
    for (int j = 0; j < 6; ++j) {
      const double p = draw == MiningDraw::kUniform ? 1.0 / 6 : std::exp(-j) / all;
      EXPECT_NEAR(first[10 + j], kDraws * p, 4 * std::sqrt(kDraws * p * (1 - p))) << "place " << j;
    }
  }
}

TEST(MiningCadence, MinesBeforeTheFirstStepThatUsesTheLists) {
  MiningConfig config;
  EXPECT_FALSE(MiningCadence(config, 10).due(10)) << "without columns never";
  EXPECT_GT(MiningCadence(config, 10).next(0), int64_t{1} << 40);
  config.columns = 4;
  config.start_epoch = 1;
  config.every_epochs = 2;
  MiningCadence epochs(config, 10);
  EXPECT_FALSE(epochs.due(10));
  EXPECT_EQ(epochs.next(0), 20);
  EXPECT_TRUE(epochs.due(20));
  EXPECT_EQ(epochs.next(20), 40);
  EXPECT_FALSE(epochs.begun());
  epochs.record(20);
  EXPECT_TRUE(epochs.begun());
  EXPECT_FALSE(epochs.due(20)) << "made already";
  EXPECT_FALSE(epochs.due(30));
  EXPECT_TRUE(epochs.due(40));
  config.every_steps = 7;
  MiningCadence steps(config, 10);
  EXPECT_TRUE(steps.due(20));
  EXPECT_TRUE(steps.due(27));
  EXPECT_EQ(steps.next(20), 27);
  EXPECT_EQ(steps.next(26), 27);
  nlohmann::json saved;
  epochs.save(saved);
  MiningCadence again(config, 10);
  again.restore(saved);
  EXPECT_FALSE(again.due(20));
  config.overlap = 7;
  EXPECT_NO_THROW(MiningCadence(config, 10));
  config.overlap = 8;
  EXPECT_FAULT(test::fault_of([&] { MiningCadence(config, 10); }), "mining.overlap = 8: expected at most 7, the steps");
  config.every_steps = 0;
  EXPECT_NO_THROW(MiningCadence(config, 4));
  EXPECT_FAULT(test::fault_of([&] { MiningCadence(config, 3); }), "expected at most 6, the steps between two minings");
}

TEST(Handover, GivesInOrderAndLetsGoOfWhoWaits) {
  Handover<int> handover;
  std::vector<int> taken;
  std::jthread taker([&] {
    try {
      for (;;) taken.push_back(handover.take());
    } catch (const std::runtime_error&) {
    }
  });
  for (int i = 0; i < 100; ++i) handover.give(i);
  { const HandoverCloser closer(handover); }
  taker.join();
  std::vector<int> all(100);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(taken, all) << "what was given is taken before the end is seen";
}

}  // namespace
}  // namespace vixen
