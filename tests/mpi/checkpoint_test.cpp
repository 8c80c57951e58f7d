// Checkpoints over ranks: what is saved comes back on any partition, and nothing damaged or unfinished is read as good.
#include "checkpoint/checkpoint.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <set>

#include "base/file.hpp"
#include "fixtures/single_rank.hpp"
#include "mpi/checkpoint_fixture.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using test::world;

using test::empty_state;
using test::expect_same;
using test::kWidth;
using test::make_state;

class CheckpointTest : public test::CheckpointFixture {};

void flip_byte(const fs::path& path, int64_t place) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(place);
  const char byte = static_cast<char>(file.get() ^ 0x40);
  file.seekp(place);
  file.put(byte);
}

TEST_F(CheckpointTest, ComesBackToTheBit) {
  const auto state = make_state(120);
  EXPECT_EQ(save_checkpoint(run_, state, world()), folder(120));
  EXPECT_EQ(newest_checkpoint(run_), folder(120));
  auto loaded = empty_state(64);
  load_checkpoint(folder(120), loaded, world());
  expect_same(loaded, state);
  EXPECT_NO_THROW(read_manifest(folder(120), /*verify=*/true));
}

TEST_F(CheckpointTest, ComesBackOntoOtherShards) {
  save_checkpoint(run_, make_state(1), world());
  for (const int64_t block_rows : {1, 7, 500, 2000}) {
    auto loaded = empty_state(block_rows);
    load_checkpoint(folder(1), loaded, world());
    expect_same(loaded, make_state(1, block_rows));
  }
}

/// Rank `rank` of `world_size` that hears from nobody else: enough to load what one rank of another job would load.
class LonelyRank : public test::SingleRank {
 public:
  LonelyRank(int rank, int world_size) : rank_(rank), world_size_(world_size) {}
  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  void all_reduce_sum(at::Tensor) override { refuse(); }
  std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor) override { return refuse(), nullptr; }
  at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t>) override { return refuse(), local; }
  at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t>, std::span<const int64_t>) override {
    return refuse(), send;
  }
  void broadcast(at::Tensor, int) override { refuse(); }

 private:
  static void refuse() { VIXEN_CHECK(false, "loading moves no tensors between ranks"); }
  int rank_, world_size_;
};

TEST_F(CheckpointTest, ComesBackOntoOtherWorldSizes) {
  save_checkpoint(run_, make_state(1), world());
  for (int readers = 1; readers <= 9; ++readers) {
    for (int reader = 0; reader < readers; ++reader) {
      SCOPED_TRACE(fmt::format("rank {} of {}", reader, readers));
      LonelyRank comm(reader, readers);
      const auto expected = make_state(1, readers, reader, 64);
      auto loaded = expected;
      for (auto& [name, table] : loaded.tables) table.local = at::full_like(table.local, -1);
      load_checkpoint(folder(1), loaded, comm);
      expect_same(loaded, expected);
    }
  }
}

TEST_F(CheckpointTest, TheNewestIsTheLargestStepAndPartialFoldersAreNone) {
  EXPECT_EQ(newest_checkpoint(run_), std::nullopt);
  EXPECT_EQ(newest_checkpoint(run_ / "none"), std::nullopt);
  save_checkpoint(run_, make_state(99999999), world());
  save_checkpoint(run_, make_state(100000000), world());
  save_checkpoint(run_, make_state(7), world());
  on_rank_0([&] {
    fs::create_directories(run_ / "checkpoints/step-900000000.partial");
    fs::create_directories(run_ / "checkpoints/step-900000000");  // no manifest
    fs::create_directories(run_ / "checkpoints/step-9x");
  });
  EXPECT_EQ(newest_checkpoint(run_), folder(100000000));
}

TEST_F(CheckpointTest, ACrashBetweenFilesLeavesTheOlderOneAndIsCleanedUp) {
  save_checkpoint(run_, make_state(5), world());
  auto partial = folder(10);
  partial += ".partial";
  on_rank_0([&] {  // killed after some files, with one half written
    fs::create_directories(partial);
    fs::copy(folder(5) / "dense.safetensors", partial / "dense.safetensors");
    std::ofstream(partial / "shard-00000-of-00001.safetensors.vixen-partial") << "half";
  });
  EXPECT_EQ(newest_checkpoint(run_), folder(5));
  world().barrier();
  save_checkpoint(run_, make_state(10), world());
  EXPECT_EQ(newest_checkpoint(run_), folder(10));
  EXPECT_FALSE(fs::exists(partial));
  EXPECT_FALSE(fs::exists(folder(10) / "shard-00000-of-00001.safetensors.vixen-partial"));
  auto loaded = empty_state(64);
  load_checkpoint(folder(10), loaded, world());
  expect_same(loaded, make_state(10));
}

TEST_F(CheckpointTest, TheSameStepIsReplaced) {
  save_checkpoint(run_, make_state(5), world());
  auto again = make_state(5);
  again.scalars["epoch"] = 4;
  save_checkpoint(run_, again, world());
  auto loaded = empty_state(64);
  load_checkpoint(folder(5), loaded, world());
  EXPECT_EQ(loaded.scalars.at("epoch"), 4);
  EXPECT_EQ(std::distance(fs::directory_iterator(run_ / "checkpoints"), {}), 1);
}

TEST_F(CheckpointTest, AnyFlippedByteIsFoundAndItsFileNamed) {
  save_checkpoint(run_, make_state(5), world());
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(folder(5))) names.push_back(entry.path());
  std::sort(names.begin(), names.end());
  ASSERT_EQ(names.size(), static_cast<size_t>(world().world_size()) + 2);
  world().barrier();
  for (const auto& path : names) {
    const auto bytes = static_cast<int64_t>(fs::file_size(path));
    for (const int64_t place : {int64_t{0}, bytes / 3, bytes - 1}) {
      on_rank_0([&] { flip_byte(path, place); });
      // Every rank throws the same message, whichever of them read the damaged file.
      const auto message = load_message(5);
      EXPECT_NE(message.find(path.string() + ": damaged"), message.npos) << place << ": " << message;
      EXPECT_THROW(read_manifest(folder(5), /*verify=*/true), UserError);
      world().barrier();
      on_rank_0([&] { flip_byte(path, place); });
    }
  }
  EXPECT_EQ(load_message(5), "(no fault)");
}

TEST_F(CheckpointTest, TruncatedAndMissingFilesAreNamed) {
  save_checkpoint(run_, make_state(5), world());
  const auto last = folder(5) / checkpoint::shard_name(world().world_size() - 1, world().world_size());
  on_rank_0([&] { fs::resize_file(last, fs::file_size(last) - 1); });
  EXPECT_NE(load_message(5).find(last.string() + ": damaged: found"), std::string::npos) << load_message(5);
  world().barrier();
  on_rank_0([&] { fs::remove(last); });
  EXPECT_EQ(load_message(5).find(last.string() + ": No such file or directory, expected a file of"), 0u)
      << load_message(5);
  world().barrier();
  const auto manifest = folder(5) / "manifest.json";
  on_rank_0([&] { fs::resize_file(manifest, 20); });
  EXPECT_EQ(load_message(5).find(manifest.string() + ": damaged: found no checksum line"), 0u) << load_message(5);
}

TEST_F(CheckpointTest, AnotherVersionOrAnotherTableIsRefused) {
  save_checkpoint(run_, make_state(5), world());
  auto wider = empty_state(64);
  wider.tables.at("bank").local = at::zeros({wider.tables.at("bank").local.size(0), kWidth + 1});
  EXPECT_EQ(test::fault_of([&] { load_checkpoint(folder(5), wider, world()); }),
            (folder(5) / "manifest.json").string() + ": table bank has 1003 rows of [3], expected 1003 of [4]");
  auto unknown = empty_state(64);
  unknown.tables["new"] = unknown.tables.at("bank");
  EXPECT_THROW(load_checkpoint(folder(5), unknown, world()), UserError);
  world().barrier();
  on_rank_0([&] {
    auto manifest = read_manifest(folder(5), false);
    std::string text = checkpoint::manifest_text(manifest);
    const auto at = text.find("\"version\": 1");
    ASSERT_NE(at, text.npos);
    // A newer program's manifest is whole: its checksum is right.
    const auto end = text.rfind(",\n \"checksum\"");
    std::string body = text.substr(0, end).replace(at, 12, "\"version\": 2");
    const auto hash = checksum(std::as_bytes(std::span(body.data(), body.size())));
    std::ofstream(folder(5) / "manifest.json") << body << fmt::format(",\n \"checksum\": \"{:016x}\"\n}}\n", hash);
  });
  EXPECT_EQ(load_message(5), (folder(5) / "manifest.json").string() + ": found version 2, expected 1");
}

TEST_F(CheckpointTest, OneRankThatCannotWriteFailsAllAndLeavesNothing) {
  save_checkpoint(run_, make_state(5), world());
  std::signal(SIGXFSZ, SIG_IGN);  // a write above the limit then says EFBIG
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const bool unlucky = world().rank() == world().world_size() - 1;
  if (unlucky) {
    const rlimit small = {1000, before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  }
  const std::string message = test::fault_of([&] { save_checkpoint(run_, make_state(10), world()); });
  if (unlucky) {
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  }
  world().barrier();
  const auto shard = checkpoint::shard_name(world().world_size() - 1, world().world_size());
  // The same line on every rank, naming the file of the one that failed.
  EXPECT_NE(message.find((folder(10).string() + ".partial/" + shard)), message.npos) << message;
  EXPECT_NE(message.find("File too large"), message.npos) << message;
  EXPECT_EQ(newest_checkpoint(run_), folder(5));
  EXPECT_EQ(std::distance(fs::directory_iterator(run_ / "checkpoints"), {}), 1);
}

TEST_F(CheckpointTest, ARunFolderThatCannotBeMadeIsNamedOnEveryRank) {
  on_rank_0([&] { std::ofstream(run_ / "file") << "x"; });
  EXPECT_FAULT(test::fault_of([&] { save_checkpoint(run_ / "file", make_state(1), world()); }),
               (run_ / "file").string());
}

TEST_F(CheckpointTest, PruningKeepsTheLastAndTheBest) {
  for (const uint64_t step : {1, 2, 3, 4, 5}) save_checkpoint(run_, make_state(step), world());
  on_rank_0([&] { prune_checkpoints(run_, {.last = 2, .best_step = 1}); });
  EXPECT_EQ(checkpoint::complete_steps(run_), (std::vector<uint64_t>{1, 4, 5}));
  EXPECT_EQ(fs::canonical(run_ / "checkpoints/best"), fs::canonical(folder(1)));
  EXPECT_EQ(newest_checkpoint(run_), folder(5));
  world().barrier();
  on_rank_0([&] { prune_checkpoints(run_, {.last = 2, .best_step = 4}); });  // a new best: the old one goes
  EXPECT_EQ(checkpoint::complete_steps(run_), (std::vector<uint64_t>{4, 5}));
  EXPECT_EQ(fs::canonical(run_ / "checkpoints/best"), fs::canonical(folder(4)));
  world().barrier();
  on_rank_0([&] { prune_checkpoints(run_, {.last = 1}); });
  EXPECT_EQ(checkpoint::complete_steps(run_), (std::vector<uint64_t>{5}));
  EXPECT_FALSE(fs::is_symlink(run_ / "checkpoints/best")) << "the link of a best that went goes too";
}

TEST_F(CheckpointTest, PruningKeepsMultiplesForGood) {
  for (const uint64_t step : {2, 3, 4, 6, 7, 8}) save_checkpoint(run_, make_state(step), world());
  on_rank_0([&] { prune_checkpoints(run_, {.last = 1, .every_steps = 3, .best_step = 4}); });
  EXPECT_EQ(checkpoint::complete_steps(run_), (std::vector<uint64_t>{3, 4, 6, 8}));
  world().barrier();
  save_checkpoint(run_, make_state(11), world());
  on_rank_0([&] { prune_checkpoints(run_, {.last = 1, .every_steps = 3, .best_step = 8}); });
  EXPECT_EQ(checkpoint::complete_steps(run_), (std::vector<uint64_t>{3, 6, 8, 11}));
}

// A user's notes beside a checkpoint, a folder that only looks like one of ours, half a checkpoint of a killed process.
TEST_F(CheckpointTest, PruningRemovesNothingThatIsNotOurs) {
  for (const uint64_t step : {1, 2, 3}) save_checkpoint(run_, make_state(step), world());
  const auto all = run_ / "checkpoints";
  on_rank_0([&] {
    std::ofstream(folder(1) / "notes.txt") << "mine";
    for (const char* name :
         {"mine.partial", "step-x.partial", "step-00000009.partial", "step-00000008.removed.partial"}) {
      fs::create_directories(all / name);
      std::ofstream(all / name / "manifest.json") << "half";
    }
    fs::create_directories(all / "step-00000007.partial");
    std::ofstream(all / "step-00000007.partial" / "data.csv") << "mine";
    std::ofstream(all / "step-00000007.partial" / "shard-00000-of-00002.safetensors.vixen-partial") << "half";
    prune_checkpoints(run_, {.last = 1});
  });
  EXPECT_EQ(checkpoint::complete_steps(run_), (std::vector<uint64_t>{3}));
  std::set<std::string> left;
  for (const auto& entry : fs::recursive_directory_iterator(all))
    if (const auto name = entry.path().lexically_relative(all).string(); !name.starts_with("step-00000003"))
      left.insert(name);
  EXPECT_EQ(left, (std::set<std::string>{"mine.partial", "mine.partial/manifest.json", "step-x.partial",
                                         "step-x.partial/manifest.json", "step-00000001", "step-00000001/notes.txt",
                                         "step-00000007.partial", "step-00000007.partial/data.csv"}));
}

}  // namespace
}  // namespace vixen
