// The timeline against sums by hand: what is hidden behind the backward pass, what is waited for, and what binds.
#include "plan/step_timeline.hpp"

#include <gtest/gtest.h>

namespace vixen {
namespace {

// Two GPUs in one node, links of 1 GB/s without latency: a sum of 1e9 bytes takes a second, rows half of it.
const Topology kPair{1, 2, {0, 1e9}, {0, 1}, {}, {}};

Exchange exchange(const char* name, Moment moment, Collective collective, double seconds, double done = 1) {
  const bool half = collective == Collective::kAllGatherRows || collective == Collective::kReduceScatterRows;
  return {name, moment, collective, 0, seconds * (half ? 2e9 : 1e9), false, done};
}
Exchange bucket(double seconds, double done) {
  return exchange("gradients", Moment::kBackward, Collective::kAllReduceSum, seconds, done);
}

const TimelineEvent& event(const StepTimeline& timeline, const std::string& name) {
  for (const auto& event : timeline.events)
    if (event.name == name) return event;
  ADD_FAILURE() << name << " is not there";
  static const TimelineEvent none;
  return none;
}

const StepCompute kCompute{.forward = 2, .backward = 4, .objective = 1, .optimiser = 0.5};

TEST(StepTimeline, WhatAllWaitForAddsUp) {
  const std::vector<Exchange> exchanges = {
      exchange("rows", Moment::kForward, Collective::kAllToAllRows, 0.25),
      exchange("embeddings", Moment::kGather, Collective::kAllGatherRows, 0.5),
      exchange("gradients of q", Moment::kObjective, Collective::kReduceScatterRows, 0.125),
      exchange("norm", Moment::kUpdate, Collective::kAllReduceSum, 0.0625)};
  const auto timeline = step_timeline(kCompute, exchanges, kPair, {});
  EXPECT_NEAR(timeline.seconds, 7.5 + 0.9375, 1e-3);
  EXPECT_NEAR(timeline.waited(), 0.9375, 1e-3);
  EXPECT_NEAR(event(timeline, "embeddings").begins, 2.25, 1e-3);
  EXPECT_NEAR(event(timeline, "prototypes and objective").begins, 2.75, 1e-3);
  EXPECT_NEAR(event(timeline, "backward").begins, 3.875, 1e-3);
  EXPECT_NEAR(event(timeline, "optimiser").begins, timeline.seconds - 0.5, 1e-9);
  EXPECT_EQ(timeline.binds(), "compute");
  EXPECT_EQ(timeline.longest_wait(), "embeddings (within nodes)");
  ASSERT_EQ(timeline.waits().size(), 4U);
  EXPECT_EQ(timeline.waits()[0].name, "waiting: rows");
}

TEST(StepTimeline, SumsHideBehindTheBackwardPass) {
  // Ready at 3 + 1, 3 + 2 and at the end, 7; a second each: the last one is waited for.
  const auto timeline = step_timeline(kCompute, std::vector{bucket(1, 0.25), bucket(1, 0.5), bucket(1, 1)}, kPair, {});
  const auto& sums = event(timeline, "gradients");
  EXPECT_EQ(sums.calls, 3);
  EXPECT_NEAR(sums.begins, 4, 1e-3);
  EXPECT_NEAR(sums.ends, 8, 1e-3);
  EXPECT_NEAR(sums.busy, 3, 1e-3);
  EXPECT_NEAR(sums.waited, 1, 1e-3);
  EXPECT_NEAR(timeline.seconds, 8.5, 1e-3);
}

TEST(StepTimeline, SumsThatTakeLongerStandInLine) {
  // Ready at 4 and 5, three seconds each: until 7, until 10, three of them past the backward pass.
  const auto timeline = step_timeline(kCompute, std::vector{bucket(3, 0.25), bucket(3, 0.5)}, kPair, {});
  EXPECT_NEAR(event(timeline, "gradients").waited, 3, 1e-3);
  EXPECT_NEAR(timeline.seconds, 10.5, 1e-3);
}

TEST(StepTimeline, GradientsOfChunksAreThereInTheLastOneAndACpuHidesNothing) {
  const std::vector<Exchange> sums = {bucket(1, 0.5)};
  auto compute = kCompute;
  compute.repeated = 4;  // the backward pass and its second forward: 8 s, of which the last chunk is 2
  EXPECT_NEAR(event(step_timeline(compute, sums, kPair, {.chunks = 1}), "gradients").begins, 3 + 4, 1e-3);
  EXPECT_NEAR(event(step_timeline(compute, sums, kPair, {.chunks = 4}), "gradients").begins, 3 + 6 + 1, 1e-3);
  const auto cpu = step_timeline(kCompute, sums, kPair, {.chunks = 1, .behind = false});
  EXPECT_NEAR(event(cpu, "gradients").begins, 7, 1e-3);
  EXPECT_NEAR(event(cpu, "gradients").waited, 1, 1e-3);
}

TEST(StepTimeline, WhatHostsTellOneAnotherIsHiddenBehindTheStep) {
  const auto offers = [](double seconds) {
    return std::vector{exchange("offers", Moment::kAhead, Collective::kAllGatherHost, seconds)};
  };
  EXPECT_NEAR(step_timeline(kCompute, offers(7), kPair, {}).seconds, 7.5, 1e-3);
  const auto slow = step_timeline(kCompute, offers(10), kPair, {});
  EXPECT_NEAR(slow.seconds, 10, 1e-3);
  EXPECT_NEAR(slow.waited(), 2.5, 1e-3);
  EXPECT_NEAR(step_timeline(kCompute, offers(7), kPair, {.chunks = 1, .behind = false}).seconds, 14.5, 1e-3);
}

TEST(StepTimeline, WhatBindsIsTheLongestPart) {
  const auto timeline = step_timeline(kCompute, std::vector{bucket(20, 0.5)}, kPair, {});
  EXPECT_EQ(timeline.binds(), "gradients (within nodes)");
  const Topology nodes{2, 1, {0, 1}, {0, 1e9}, {}, {}};
  EXPECT_EQ(step_timeline(kCompute, std::vector{bucket(20, 0.5)}, nodes, {}).binds(), "gradients (between nodes)");
  const Topology slow{2, 1, {0, 1}, {5, 1e9}, {}, {}};
  EXPECT_EQ(step_timeline(kCompute, std::vector{bucket(2, 0.5)}, slow, {}).binds(), "gradients (latency)");
  EXPECT_EQ(step_timeline(kCompute, {}, nodes, {}).binds(), "compute");
}

TEST(StepTimeline, OneRankWaitsForNobody) {
  const Topology one{1, 1, {0, 1}, {0, 1}, {}, {}};
  const auto timeline = step_timeline(kCompute, std::vector{bucket(20, 0.5)}, one, {});
  EXPECT_NEAR(timeline.seconds, 7.5, 1e-12);
  EXPECT_EQ(timeline.waited(), 0);
  EXPECT_TRUE(timeline.waits().empty());
  EXPECT_EQ(timeline.longest_wait(), "");
}

}  // namespace
}  // namespace vixen
