// What a step sends, by rank and number of ranks, against what the whole batch adds up to; rows that depend on the
// batch against batches that are drawn. tests/mpi/message_counts_test.cpp holds it against real runs.
#include "plan/traffic_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "objective/objective.hpp"

namespace vixen {
namespace {

constexpr int64_t kWidth = 24, kFloat = 4;

TrafficShape shape_of(Method method, int64_t ranks, ObjectiveWay way = ObjectiveWay::kReplicated) {
  TrafficShape shape;
  shape.config.train.method = method;
  shape.config.train.batch_size = 150;
  shape.config.prototype.free_vectors = 2048;
  shape.world_size = ranks;
  shape.width = kWidth;
  shape.queries = 30'000;
  shape.labels = 20'000;
  shape.columns = 170;
  shape.way = way;
  shape.gradients = {{{90'000, 100'000}, 0}, {{50'000, 90'000}, 0.5}, {{0, 50'000}, 1}};
  shape.config.comm.bucket_mb = 0.12;  // 30,000 elements
  return shape;
}

int64_t total(const TrafficShape& shape, Collective collective, const std::string& name = {}) {
  int64_t bytes = 0;
  for (const auto& item : step_traffic(shape))
    if (item.most.collective == collective && (name.empty() || item.most.name == name)) bytes += item.total_bytes;
  return bytes;
}

TEST(TrafficPlan, RanksTogetherSendWhatTheBatchAddsUpTo) {
  for (int64_t ranks = 1; ranks <= 9; ++ranks) {
    const auto prime = shape_of(Method::kPrime, ranks), ngame = shape_of(Method::kNgame, ranks);
    EXPECT_EQ(total(prime, Collective::kAllGatherRows), (ranks - 1) * (150 + 2 * 170) * kWidth * kFloat) << ranks;
    EXPECT_EQ(total(ngame, Collective::kAllGatherRows), (ranks - 1) * (150 + 170) * kWidth * kFloat) << ranks;
    EXPECT_EQ(total(prime, Collective::kReduceScatterRows), 0);
    const auto sharded = shape_of(Method::kPrime, ranks, ObjectiveWay::kSharded);
    EXPECT_EQ(total(sharded, Collective::kReduceScatterRows), (ranks - 1) * (150 + 2 * 170) * kWidth * kFloat);
    // Slices to whoever sums them, and sums back: 2 (W-1)/W of the tensor a rank.
    EXPECT_EQ(total(prime, Collective::kAllReduceSum), 2 * (ranks - 1) * 100'000 * kFloat) << ranks;
    EXPECT_EQ(total(ngame, Collective::kAllToAllRows), 0);
    EXPECT_EQ(total(prime, Collective::kMaxHost), ranks * (ranks - 1) * 8);
  }
}

TEST(TrafficPlan, GradientsTravelInBucketsAndAsWideAsAsked) {
  auto shape = shape_of(Method::kTriplet, 2);
  std::vector<int64_t> elements;
  std::vector<double> done;
  const auto look = [&] {
    elements.clear();
    done.clear();
    for (const auto& exchange : step_exchanges(shape, {}, 0)) {
      if (exchange.moment != Moment::kBackward) continue;
      elements.push_back(std::llround(exchange.payload_bytes));
      done.push_back(exchange.done);
    }
  };
  look();
  EXPECT_EQ(elements, (std::vector<int64_t>{50'000 * 4, 50'000 * 4}));
  EXPECT_EQ(done, (std::vector<double>{0.5, 1}));
  shape.config.comm.gradients = GradientSums::kBf16;
  shape.config.comm.bucket_mb = 1000;
  look();
  EXPECT_EQ(elements, (std::vector<int64_t>{100'000 * 2}));
  EXPECT_EQ(done, (std::vector<double>{1})) << "what is not full sets out at the end";
}

TEST(TrafficPlan, NormsLinesAndAgreementsAreOfStepsThatHaveThem) {
  auto shape = shape_of(Method::kPrime, 4);
  const auto calls = [&](const StepKind& kind) { return counts_of(step_exchanges(shape, kind, 1)); };
  const auto plain = calls({false, false}), logged = calls({true, false}), agreed = calls({false, true});
  EXPECT_EQ(plain[Collective::kMaxHost].calls, 0);
  EXPECT_EQ(agreed[Collective::kMaxHost], (MessageCount{1, 3 * 8}));
  EXPECT_EQ(logged[Collective::kSumHost], (MessageCount{1, 3 * 8}));
  EXPECT_EQ(logged[Collective::kAllReduceSum].bytes - plain[Collective::kAllReduceSum].bytes, 3 * 8)
      << "the norm of the free vectors' gradients";
  shape.config.train.clip_norm = 1;
  EXPECT_EQ(calls({false, false})[Collective::kAllReduceSum], logged[Collective::kAllReduceSum]);
}

TEST(TrafficPlan, OneRankSendsNothing) {
  for (const auto method : {Method::kPrime, Method::kNgame, Method::kTriplet})
    for (const auto& exchange : step_exchanges(shape_of(method, 1, ObjectiveWay::kSharded), {true, true}, 0))
      EXPECT_EQ(exchange.bytes, 0) << exchange.name;
}

// Means over batches drawn evenly and independently, as the plan takes them to be.
TEST(TrafficPlan, RowsThatAreExpectedAreTheMeanOfThoseOfBatches) {
  std::mt19937 random(7);
  auto shape = shape_of(Method::kPrime, 3);
  shape.config.mining.columns = 20;
  constexpr int kBatches = 400;
  for (int rank = 0; rank < 3; ++rank) {
    std::vector<double> mean, expected;
    for (int batch = 0; batch < kBatches; ++batch) {
      const auto drawn = [&](int64_t n, int64_t most) {
        std::vector<int64_t> rows(static_cast<size_t>(n));
        for (auto& row : rows) row = std::uniform_int_distribution<int64_t>(0, most - 1)(random);
        return rows;
      };
      const auto queries = drawn(150, shape.queries), labels = drawn(170, shape.labels), free = drawn(170, 2048);
      const BatchRows rows{queries, labels, free};
      size_t i = 0;
      for (const auto& exchange : step_exchanges(shape, {}, rank, &rows)) {
        if (!exchange.depends_on_rows) continue;
        if (mean.size() <= i) mean.push_back(0);
        mean[i++] += static_cast<double>(exchange.bytes) / kBatches;
      }
    }
    for (const auto& exchange : step_exchanges(shape, {}, rank))
      if (exchange.depends_on_rows) expected.push_back(static_cast<double>(exchange.bytes));
    ASSERT_EQ(mean.size(), 4U) << "offers, free vectors, centroids, gradients of free vectors";
    ASSERT_EQ(expected.size(), 4U);
    for (size_t i = 0; i < mean.size(); ++i) EXPECT_NEAR(mean[i] / expected[i], 1, 0.02) << rank << ", " << i;
  }
}

TEST(TrafficPlan, AManyTimesDrawnRowIsAskedForOnceAndItsGradientsAllTravel) {
  const auto shape = shape_of(Method::kPrime, 2);
  const std::vector<int64_t> queries(150, 0), labels(170, 19'999), free(170, 0);
  const BatchRows rows{queries, labels, free};
  const auto bytes = [&](int rank, const std::string& name) {
    for (const auto& exchange : step_exchanges(shape, {}, rank, &rows))
      if (exchange.name == name) return exchange.bytes;
    return int64_t{-1};
  };
  EXPECT_EQ(bytes(0, "rows of free vectors"), kWidth * kFloat);
  EXPECT_EQ(bytes(1, "rows of free vectors"), 0);
  EXPECT_EQ(bytes(0, "rows of centroids"), 0);
  EXPECT_EQ(bytes(1, "rows of centroids"), kWidth * kFloat);
  EXPECT_EQ(bytes(0, "gradients of free vectors"), 0);
  EXPECT_EQ(bytes(1, "gradients of free vectors"), 85 * kWidth * kFloat);
}

}  // namespace
}  // namespace vixen
