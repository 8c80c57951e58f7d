// What a training step must not do on a device: wait for it, copy from or to pageable memory, leave order to chance.
#include "pretend/training_fixture.hpp"

#include <map>

namespace vixen::pretend {
namespace {

class PretendStepsTest : public TrainingFixture {
 protected:
  // Faults of four steps, batches included, the first passes left out; how often each.
  static std::map<std::string, int> faults_of_steps(const Config& settings,
                                                    const std::function<void(const StepResult&)>& look = {}) {
    const Dataset dataset(settings.data.path);
    auto trainer = make(settings, dataset, device());
    trainer->prepare();
    trainer->run_steps(1);
    take_faults();
    {
      const InStep step;
      EXPECT_EQ(trainer->run_steps(4, look), 4);
    }
    // What the prefetcher's thread does is done in a step, too.
    const auto order = epoch_order(trainer->parts(), 0);
    {
      auto& parts = trainer->parts();
      auto plan = parts.planner->plan(0, 5, order.view());
      const InStep step;
      auto input = parts.step->prepare(std::move(plan), dataset, parts.pack);
    }
    std::map<std::string, int> found;
    for (const Fault& fault : take_faults()) ++found[text_of({fault})];
    return found;
  }
  static void expect_none(const Config& settings) {
    for (const auto& [text, times] : faults_of_steps(settings)) ADD_FAILURE() << times << " times " << text;
  }
};

TEST_F(PretendStepsTest, PrimeOfBertWaitsForNothing) {
  expect_none(bert());
}

TEST_F(PretendStepsTest, PrimeOfADecoderWaitsForNothing) {
  expect_none(decoder());
}

TEST_F(PretendStepsTest, NgameWaitsForNothing) {
  auto settings = bert();
  settings.train.method = Method::kNgame;
  expect_none(settings);
}

TEST_F(PretendStepsTest, TripletWaitsForNothing) {
  auto settings = bert();
  settings.train.method = Method::kTriplet;
  expect_none(settings);
}

TEST_F(PretendStepsTest, LateFusionWaitsForNothing) {
  for (auto settings : {bert(), decoder()}) {
    settings.model.fusion = Fusion::kLate;
    expect_none(settings);
  }
}

TEST_F(PretendStepsTest, TheFirstTokenAsPoolingWaitsForNothing) {
  auto settings = bert();
  settings.model.pooling = Pooling::kCls;
  expect_none(settings);
}

TEST_F(PretendStepsTest, ChunksAndTablesOfTheHostWaitForNothing) {
  auto settings = bert();
  settings.train.chunks = 3;
  settings.train.tables = TableHome::kHost;
  expect_none(settings);
  settings = decoder();
  settings.train.recompute_layers = 2;
  expect_none(settings);
}

TEST_F(PretendStepsTest, AShardedObjectiveAndMinedColumnsWaitForNothing) {
  auto settings = bert();
  settings.train.objective = ObjectiveWay::kSharded;
  expect_none(settings);
  settings = bert();
  settings.mining.columns = 16;
  settings.mining.depth = 8;
  expect_none(settings);
}

// A checkpoint comes down into pinned memory, in the order of the stream: the steps behind it change what it was taken
// of, and neither waits for it.
TEST_F(PretendStepsTest, ASnapshotWaitsForNothingAndHoldsItsStep) {
  for (const auto& settings : {bert("snapshot-bert"), decoder("snapshot-decoder")}) {
    const Dataset dataset(settings.data.path);
    auto trainer = make(settings, dataset, device());
    trainer->prepare();
    trainer->run_steps(2);
    const auto expected = trainer->parts().store.flat_values().cpu();
    const auto bank = trainer->parts().bank->local().cpu();
    take_faults();
    {
      const InStep step;
      trainer->checkpoint();
      trainer->run_steps(2);
    }
    EXPECT_EQ(text_of(take_faults()), "");
    const auto after = trainer->parts().store.flat_values().cpu();
    EXPECT_FALSE(after.equal(expected));
    trainer->save();  // waits for the one before; of step 4
    take_faults();
    const auto saved = newest_checkpoint(settings.run.dir);
    ASSERT_TRUE(saved);
    std::filesystem::remove_all(*saved);
    auto resumed = make(settings, dataset, device());
    ASSERT_TRUE(resumed->resume());
    EXPECT_EQ(resumed->global_step(), 2);
    EXPECT_TRUE(resumed->parts().store.flat_values().cpu().equal(expected));
    EXPECT_TRUE(resumed->parts().bank->local().cpu().equal(bank));
    resumed->run_steps(2);
    EXPECT_TRUE(resumed->parts().store.flat_values().cpu().equal(after));
  }
}

// A batch comes up on a stream of its own: who uses it without having joined it is found.
TEST_F(PretendStepsTest, ABatchIsJoinedBeforeItIsUsed) {
  const auto settings = bert();
  const Dataset dataset(settings.data.path);
  auto trainer = make(settings, dataset, device());
  trainer->prepare();
  auto& parts = trainer->parts();
  const auto order = epoch_order(parts, 0);
  const auto input = parts.step->prepare(parts.planner->plan(0, 0, order.view()), dataset, parts.pack);
  take_faults();
  input.positives + 1;
  const auto faults = take_faults();
  ASSERT_EQ(faults.size(), 1U) << text_of(faults);
  EXPECT_EQ(faults[0].kind, FaultKind::kUnordered) << text_of(faults);
  input.join();
  input.positives + 1;
  EXPECT_EQ(text_of(take_faults()), "");
}

TEST_F(PretendStepsTest, AWaitThatIsAddedIsFound) {
  const auto found = faults_of_steps(bert(), [](const StepResult& result) { result.loss.item<double>(); });
  ASSERT_EQ(found.size(), 1U);
  EXPECT_NE(found.begin()->first.find("aten::item"), std::string::npos) << found.begin()->first;
  EXPECT_EQ(found.begin()->second, 4);
}

}  // namespace
}  // namespace vixen::pretend
