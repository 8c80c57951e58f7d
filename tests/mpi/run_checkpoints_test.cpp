// Runs with checkpoints behind the training: the same numbers as with those that are waited for, what is kept of them
// and said of them, the memory that was planned; and disks that refuse one.
#include "train/run_checkpoints.hpp"

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/checkpoint_files.hpp"
#include "fixtures/fault.hpp"
#include "mpi/trainer_fixture.hpp"
#include "plan/snapshot_plan.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;

class RunCheckpointsTest : public test::TrainerFixture {
 protected:
  static Config settings_of(const std::string& run) {
    auto settings = config(fmt::format("{}-{}", run, test::world().world_size()));
    settings.train.epochs = 2;  // of 10 steps
    settings.run.checkpoint_every_steps = 2;
    settings.run.log_every_steps = 1;
    settings.run.keep_last = 1;
    settings.run.keep_every_steps = 4;
    return settings;
  }
  static std::vector<nlohmann::json> events_of(const Config& settings) {
    std::vector<nlohmann::json> events;
    std::ifstream file(fs::path(settings.run.dir) / "metrics.jsonl");
    for (std::string line; std::getline(file, line);)
      if (auto object = nlohmann::json::parse(line); object.contains("checkpoint")) events.push_back(std::move(object));
    return events;
  }
  template <typename Work>
  static void on_rank_0(Work work) {
    test::world().barrier();
    if (test::world().rank() == 0) work();
    test::world().barrier();
  }
};

TEST_F(RunCheckpointsTest, BehindTheTrainingTheyChangeNoBit) {
  at::Tensor expected;
  for (const bool behind : {false, true}) {
    auto settings = settings_of(behind ? "behind" : "waited-for");
    settings.run.checkpoint_async = behind;
    const Dataset dataset(settings.data.path);
    auto trainer = make(settings, dataset, false);
    trainer->start();
    while (trainer->run_epoch()) trainer->checkpoint();
    trainer->finish();
    test::world().barrier();
    const auto& values = trainer->parts().store.flat_values();
    if (!expected.defined()) expected = values.clone();
    EXPECT_TRUE(values.equal(expected));

    EXPECT_EQ(checkpoint::complete_steps(settings.run.dir), (std::vector<uint64_t>{4, 8, 12, 16, 20}));
    for (const auto& entry : fs::directory_iterator(fs::path(settings.run.dir) / "checkpoints"))
      EXPECT_FALSE(entry.path().filename().string().ends_with(".partial")) << entry.path();
    std::vector<int64_t> steps;
    for (const auto& event : events_of(settings)) {
      steps.push_back(event.at("step").get<int64_t>());
      const auto& made = event.at("checkpoint");
      EXPECT_GT(made.at("bytes").get<int64_t>(), trainer->parts().store.elements() * 12);
      EXPECT_GT(made.at("snapshot_seconds").get<double>(), 0);
      EXPECT_GT(made.at("write_seconds").get<double>(), 0);
      EXPECT_GE(made.at("waited_seconds").get<double>(), 0);
    }
    EXPECT_EQ(steps, (std::vector<int64_t>{2, 4, 6, 8, 10, 12, 14, 16, 18, 20}));

    int64_t planned = 0;
    for (const auto& part : trainer->parts().memory.resident)
      if (part.name.starts_with(kSnapshot)) planned += part.bytes;
    if (!behind) {
      EXPECT_EQ(trainer->snapshot_bytes(), 0);
      EXPECT_EQ(planned, 0);
    } else {
      // The rank that the plan is of has what rank 0 has beside its rows, and the most rows of every table.
      const auto held = static_cast<double>(trainer->snapshot_bytes());
      EXPECT_LE(held, 1.001 * static_cast<double>(planned));
      if (test::world().world_size() == 1) {
        EXPECT_NEAR(static_cast<double>(planned), held, 0.02 * held);
      }
    }

    // The checkpoint of the middle is the state of its step, not of those taken while it was written.
    on_rank_0([&] {
      for (const uint64_t step : {16, 20})
        checkpoint::remove_checkpoint(checkpoint::step_folder(settings.run.dir, step));
    });
    auto again = make(settings, dataset, false);
    ASSERT_TRUE(again->resume());
    EXPECT_EQ(again->global_step(), 12);
    again->run_steps(100);
    EXPECT_TRUE(again->parts().store.flat_values().equal(expected));
  }
}

// `checkpoints` is a file for a while: nothing can be written there.
TEST_F(RunCheckpointsTest, ADiskThatRefusesOneIsNoReasonToStopBeforeTheLast) {
  const auto settings = settings_of("refused");
  const Dataset dataset(settings.data.path);
  auto trainer = make(settings, dataset, false);
  trainer->start();
  const auto place = fs::path(settings.run.dir) / "checkpoints";
  on_rank_0([&] { std::ofstream(place) << "x"; });
  EXPECT_TRUE(trainer->run_epoch());
  EXPECT_EQ(trainer->global_step(), 10);
  trainer->checkpoint();
  EXPECT_FAULT(test::fault_of([&] { trainer->save(); }), place.string());
  on_rank_0([&] { fs::remove(place); });
  trainer->save();
  EXPECT_EQ(checkpoint::complete_steps(settings.run.dir), (std::vector<uint64_t>{10}));
  on_rank_0([&] {
    fs::remove_all(place);
    std::ofstream(place) << "x";
  });
  EXPECT_TRUE(trainer->run_epoch());
  trainer->checkpoint();
  const auto fault = test::fault_of([&] { trainer->finish(); });
  EXPECT_FAULT(fault, place.string());
  EXPECT_FAULT(fault, "no checkpoint of step 20, the run's last");
}

}  // namespace
}  // namespace vixen
