// Checkpoints behind the training: what is written is the state at begin(), nothing has a name before all ranks' files
// are on disk, and what goes wrong leaves the older checkpoint and the way free for the next.
#include "checkpoint/checkpoint_writer.hpp"

#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <thread>

#include "mpi/checkpoint_fixture.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using test::empty_state;
using test::expect_same;
using test::make_state;
using test::world;

class CheckpointWriterTest : public test::CheckpointFixture {
 protected:
  static constexpr KeepRules kAll{.last = 100};

  /// look() behind "steps" until the checkpoint has ended.
  static CheckpointEnd looked_for(CheckpointWriter& writer) {
    for (int step = 0; step < 20000; ++step) {
      if (const auto end = writer.look()) return *end;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ADD_FAILURE() << "it never ends";
    return writer.wait();
  }
  void expect_loads(uint64_t step) const {
    auto loaded = empty_state(64);
    load_checkpoint(folder(step), loaded, world());
    expect_same(loaded, make_state(step));
  }
  bool last_rank() const { return world().rank() == world().world_size() - 1; }
};

TEST_F(CheckpointWriterTest, WritesTheStateThatWasWhenItBegan) {
  CheckpointWriter writer(run_, world());
  for (const uint64_t step : {3, 4}) {  // the second into the first one's memory
    auto state = make_state(step);
    for (auto& [name, tensor] : state.dense) tensor = tensor.clone();
    for (auto& [name, table] : state.tables) table.local = table.local.clone();
    writer.begin(state, kAll, /*snapshot=*/true);
    EXPECT_TRUE(writer.busy());
    for (auto& [name, tensor] : state.dense) tensor.zero_();  // training goes on
    for (auto& [name, table] : state.tables) table.local.zero_();
    const auto end = looked_for(writer);
    EXPECT_FALSE(writer.busy());
    EXPECT_EQ(end.failure, "");
    EXPECT_EQ(end.step, step);
    EXPECT_GT(end.snapshot_seconds, 0);
    EXPECT_GT(end.write_seconds, 0);
    int64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(folder(step)))
      if (entry.path().filename() != "manifest.json") bytes += static_cast<int64_t>(entry.file_size());
    EXPECT_EQ(end.bytes, bytes);
    expect_loads(step);
    world().barrier();
  }
  int64_t bytes = 0;
  const auto state = make_state(0);
  for (const auto& [name, table] : state.tables) bytes += static_cast<int64_t>(table.local.nbytes());
  if (world().rank() == 0)
    for (const auto& [name, tensor] : state.dense) bytes += static_cast<int64_t>(tensor.nbytes());
  EXPECT_EQ(writer.snapshot_bytes(), bytes) << "the memory of one snapshot, of what this rank writes";
}

// One rank has much to write, the others have long been done.
TEST_F(CheckpointWriterTest, HasNoNameBeforeTheSlowestRankHasWritten) {
  if (world().world_size() == 1) GTEST_SKIP() << "needs two ranks";
  auto state = make_state(7);
  constexpr int64_t kMany = 20'000'000;
  auto& large = state.tables["large"];
  large.shards = RowShards(kMany, world().world_size(), kMany);  // one block
  large.local = at::ones({large.shards.range(world().rank()).size(), 1});
  CheckpointWriter writer(run_, world());
  writer.begin(state, kAll, /*snapshot=*/true);
  auto partial = folder(7);
  partial += ".partial";
  const auto written = [&](const fs::path& place) {
    int files = 0;
    for (int rank = 0; rank < world().world_size(); ++rank)
      files += fs::exists(place / checkpoint::shard_name(rank, world().world_size()));
    return files;
  };
  int waited = 0;
  std::optional<CheckpointEnd> end;
  while (!end) {
    const int files = written(partial);
    const bool named = fs::exists(folder(7));
    waited += files > 0 && files < world().world_size() && !named;
    if (named) {
      EXPECT_EQ(written(folder(7)), world().world_size());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    end = writer.look();
  }
  EXPECT_EQ(end->failure, "");
  EXPECT_GT(waited, 0) << "nobody was slower than the others: the test tests nothing";
}

TEST_F(CheckpointWriterTest, OneThatIsGivenUpHasNoName) {
  save_checkpoint(run_, make_state(5), world());
  {
    CheckpointWriter writer(run_, world());
    writer.begin(make_state(6), kAll, /*snapshot=*/true);
  }  // an exception went by
  world().barrier();
  EXPECT_EQ(newest_checkpoint(run_), folder(5));
  world().barrier();
  CheckpointWriter writer(run_, world());
  writer.begin(make_state(8), kAll, /*snapshot=*/true);
  EXPECT_EQ(writer.wait().failure, "");
  EXPECT_EQ(std::distance(fs::directory_iterator(run_ / "checkpoints"), {}), 2) << "what was left lying is gone";
  expect_loads(8);
}

TEST_F(CheckpointWriterTest, ADiskThatRefusesOneRankIsNamedOnAllAndTheNextIsWritten) {
  save_checkpoint(run_, make_state(5), world());
  std::signal(SIGXFSZ, SIG_IGN);  // a write above the limit then says EFBIG
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {1000, before.rlim_max};
  CheckpointWriter writer(run_, world());
  if (last_rank()) {
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  }
  writer.begin(make_state(6), KeepRules{.last = 1}, /*snapshot=*/true);
  const auto end = looked_for(writer);
  if (last_rank()) {
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  }
  const auto shard = checkpoint::shard_name(world().world_size() - 1, world().world_size());
  EXPECT_NE(end.failure.find(folder(6).string() + ".partial/" + shard), std::string::npos) << end.failure;
  EXPECT_NE(end.failure.find("File too large"), std::string::npos) << end.failure;
  EXPECT_FALSE(end.diverged);
  world().barrier();
  EXPECT_EQ(newest_checkpoint(run_), folder(5)) << "pruned after a commit only";
  EXPECT_EQ(std::distance(fs::directory_iterator(run_ / "checkpoints"), {}), 1);
  world().barrier();
  writer.begin(make_state(7), KeepRules{.last = 1}, /*snapshot=*/true);
  EXPECT_EQ(looked_for(writer).failure, "");
  EXPECT_EQ(checkpoint::complete_steps(run_), (std::vector<uint64_t>{7}));
  expect_loads(7);
}

TEST_F(CheckpointWriterTest, AValueThatIsNotFiniteIsNoDisksFault) {
  auto state = make_state(6);
  if (last_rank() && state.tables.at("bank").local.numel() > 0) state.tables.at("bank").local[0][0] = NAN;
  CheckpointWriter writer(run_, world());
  writer.begin(state, kAll, /*snapshot=*/true);
  const auto end = writer.wait();
  EXPECT_TRUE(end.diverged);
  EXPECT_NE(end.failure.find("tensor bank would be written with NaN"), std::string::npos) << end.failure;
  EXPECT_EQ(newest_checkpoint(run_), std::nullopt);
}

// All ranks' files were safe on disk, and one is gone when rank 0 looks: another job, or a user, cleans up.
TEST_F(CheckpointWriterTest, AFileThatIsGoneBeforeTheCommitIsMissed) {
  CheckpointWriter writer(run_, world());
  writer.begin(make_state(6), kAll, /*snapshot=*/true);
  auto partial = folder(6);
  partial += ".partial";
  const auto file = partial / checkpoint::shard_name(world().world_size() - 1, world().world_size());
  on_rank_0([&] {
    while (!fs::exists(file) || !fs::exists(partial / checkpoint::kDense)) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // read again, and described
    fs::remove(file);
  });
  const auto end = writer.wait();
  EXPECT_EQ(end.failure, "cannot write " + file.string() + ": No such file or directory");
  EXPECT_EQ(newest_checkpoint(run_), std::nullopt);
  writer.begin(make_state(7), kAll, /*snapshot=*/true);
  EXPECT_EQ(writer.wait().failure, "");
  expect_loads(7);
}

TEST_F(CheckpointWriterTest, AFolderThatWasRemovedIsMadeAnew) {
  CheckpointWriter writer(run_, world());
  for (const uint64_t step : {6, 7}) {
    writer.begin(make_state(step), kAll, /*snapshot=*/true);
    EXPECT_EQ(writer.wait().failure, "");
    expect_loads(step);
    world().barrier();
    on_rank_0([&] { fs::remove_all(run_ / "checkpoints"); });
  }
}

TEST_F(CheckpointWriterTest, AFolderThatCannotBeMadeIsSaidAtOnceAndNothingIsOnItsWay) {
  on_rank_0([&] { std::ofstream(run_ / "file") << "x"; });
  CheckpointWriter writer(run_ / "file", world());
  EXPECT_FAULT(test::fault_of([&] { writer.begin(make_state(1), kAll, /*snapshot=*/true); }), (run_ / "file").string());
  EXPECT_FALSE(writer.busy());
  EXPECT_FALSE(writer.look().has_value());
}

}  // namespace
}  // namespace vixen
