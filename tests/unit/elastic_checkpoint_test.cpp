// Checkpoints from any number of ranks onto any other, 1 to 64: every row comes back where it belongs.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "checkpoint/checkpoint_writer.hpp"
#include "fixtures/temp_dir.hpp"
#include "fixtures/thread_ranks.hpp"

namespace vixen {
namespace {

constexpr int kMost = 64;

/// Rows whose values say which they are, in shards of whole blocks; of the small table most of many ranks have none.
CheckpointState state_of(int world_size, int rank) {
  CheckpointState state;
  state.step = static_cast<uint64_t>(world_size);
  state.scalars = {{"epoch", 3}};
  state.dense["parameters"] = at::arange(40, at::kFloat) / 7;
  const auto table = [&](const char* name, int64_t rows, int64_t block, at::ScalarType dtype) {
    const RowShards shards(rows, world_size, block);
    const RowRange own = shards.range(rank);
    state.tables[name] = {shards,
                          (at::arange(own.begin, own.end, at::kLong).unsqueeze(1) * 3 + at::arange(2, at::kLong))
                              .remainder(2000)
                              .to(dtype)};
  };
  table("bank", 517, 4, at::kHalf);
  table("few", 5, 1, at::kFloat);
  return state;
}

class ElasticCheckpointTest : public testing::Test {
 protected:
  void save(int world_size) {
    test::run_ranks(world_size, [&](Communicator& comm) {
      CheckpointWriter writer(dir_.path(), comm);
      writer.begin(state_of(world_size, comm.rank()), std::nullopt, /*snapshot=*/false);
      const auto end = writer.wait();
      EXPECT_EQ(end.failure, "");
    });
  }
  // Rows that are not where they belong, over all ranks.
  int64_t wrong_rows(int written_by, int world_size) {
    std::atomic<int64_t> wrong = 0;
    test::run_ranks(world_size, [&](Communicator& comm) {
      const CheckpointState expected = state_of(world_size, comm.rank());
      CheckpointState found = state_of(world_size, comm.rank());
      for (auto& [name, table] : found.tables) table.local.fill_(-1);
      load_checkpoint(checkpoint::step_folder(dir_.path(), static_cast<uint64_t>(written_by)), found, comm);
      EXPECT_TRUE(found.dense.at("parameters").equal(expected.dense.at("parameters")));
      for (const auto& [name, table] : expected.tables)
        wrong += found.tables.at(name).local.ne(table.local).any(1).sum().item<int64_t>();
    });
    return wrong;
  }

  test::TempDir dir_;
};

TEST_F(ElasticCheckpointTest, EveryPairOfWorldSizes) {
  for (int writers = 1; writers <= kMost; ++writers) save(writers);
  // Threads cost more than rows: what many ranks write is read by many, few and one.
  for (int writers = 1; writers <= kMost; ++writers)
    for (int readers = 1; readers <= kMost; ++readers) {
      if (writers > 8 && readers > 8 && (writers * 64 + readers) % 17 != 0 && writers != readers) continue;
      ASSERT_EQ(wrong_rows(writers, readers), 0) << writers << " ranks wrote what " << readers << " read";
    }
}

}  // namespace
}  // namespace vixen
