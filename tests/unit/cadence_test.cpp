// When evaluations and checkpoints are due, and how many checkpoints a run has on disk at most.
#include "train/cadence.hpp"

#include <gtest/gtest.h>

#include "base/check.hpp"
#include "fixtures/fault.hpp"

namespace vixen {
namespace {

TEST(EvaluationCadence, IsDueEverySoManyEpochsButTheLast) {
  TrainConfig config;
  config.epochs = 6;
  std::vector<int64_t> due;
  const auto collect = [&](int64_t every) {
    config.evaluate_every_epochs = every;
    const EvaluationCadence cadence(config);
    due.clear();
    for (int64_t done = 1; done <= config.epochs; ++done)
      if (cadence.due(done)) due.push_back(done);
    return due;
  };
  EXPECT_EQ(collect(0), std::vector<int64_t>{});
  EXPECT_EQ(collect(1), (std::vector<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(collect(2), (std::vector<int64_t>{2, 4}));
  EXPECT_EQ(collect(6), std::vector<int64_t>{}) << "the finished model is evaluated anyway";
}

TEST(EvaluationCadence, KeepsTheBestAndItsStep) {
  TrainConfig config;
  config.best_metric = "P@1";
  EvaluationCadence cadence(config);
  nlohmann::json scalars = nlohmann::json::object();
  cadence.save(scalars);
  EXPECT_TRUE(scalars.empty());
  EXPECT_EQ(cadence.record({{"P@1", 40}}, 10), 40);
  cadence.record({{"P@1", 45}}, 20);
  cadence.record({{"P@1", 45}}, 30);
  EXPECT_EQ(cadence.best_step(), 20u) << "the first of equal ones";
  cadence.save(scalars);
  EvaluationCadence resumed(config);
  resumed.restore(scalars);
  EXPECT_EQ(resumed.best(), 45);
  EXPECT_EQ(resumed.best_step(), 20u);
  EXPECT_FAULT(test::fault_of([&] { cadence.record({{"P@5", 1}}, 40); }), "train.best_metric");
}

TEST(CheckpointCadence, IsDueWithinEpochsAndCountsWhatIsOnDisk) {
  RunConfig run;
  run.keep_last = 2;
  run.checkpoint_every_steps = 4;
  const CheckpointCadence cadence(run, /*epochs=*/3, /*steps_per_epoch=*/8);
  std::vector<int64_t> due;
  for (int64_t step = 1; step <= 24; ++step)
    if (cadence.due(step)) due.push_back(step);
  EXPECT_EQ(due, (std::vector<int64_t>{4, 12, 20})) << "the end of an epoch has its own";
  EXPECT_EQ(cadence.most_on_disk(), 4) << "the last two, the best, the one being written";
  run.keep_every_steps = 12;
  EXPECT_EQ(CheckpointCadence(run, 3, 8).most_on_disk(), 6) << "steps 12 and 24 for good; no more than it writes";
  run.keep_every_steps = 0;
  run.checkpoint_every_steps = 0;
  const CheckpointCadence never(run, 3, 8);
  EXPECT_FALSE(never.due(4));
  EXPECT_EQ(never.most_on_disk(), 3) << "no more than a run of three epochs writes";
}

}  // namespace
}  // namespace vixen
