// States of checkpoints whose every row is known, and a run folder that all ranks share.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen::test {

/// Row r of a table is a function of r alone: a wrong row is seen wherever it ends.
inline at::Tensor table_rows(RowRange range, int64_t width, at::ScalarType dtype) {
  const auto rows = at::arange(range.begin, range.end, at::kLong).unsqueeze(1);
  return (rows * 10 + at::arange(width, at::kLong)).remainder(2000).to(dtype);
}

inline constexpr int64_t kRows = 1003, kWidth = 3;

inline CheckpointState make_state(uint64_t step, int world_size, int rank, int64_t block_rows) {
  CheckpointState state;
  state.step = step;
  state.scalars = {{"epoch", 3}, {"best", 0.1 + 0.2}, {"settings", "[train]\nlr = 0.1\n"}, {"seed", ~uint64_t{0}}};
  state.dense["parameters"] = at::arange(100, at::kFloat) / 7;
  state.dense["half"] = at::arange(10, at::kFloat).to(at::kBFloat16);
  state.dense["leaves"] = at::arange(1000, at::kInt);
  state.dense["empty"] = at::empty({0, 4});
  const RowShards shards(kRows, world_size, block_rows), few(2, world_size, 1);
  state.tables["bank"] = {shards, table_rows(shards.range(rank), kWidth, at::kHalf)};
  state.tables["moments"] = {shards, table_rows(shards.range(rank), kWidth, at::kFloat)};
  state.tables["few"] = {few, table_rows(few.range(rank), 1, at::kFloat)};  // some ranks own nothing
  return state;
}

inline CheckpointState make_state(uint64_t step, int64_t block_rows = 64) {
  return make_state(step, world().world_size(), world().rank(), block_rows);
}

/// The same tables, unfilled.
inline CheckpointState empty_state(int64_t block_rows) {
  auto state = make_state(0, block_rows);
  for (auto& [name, table] : state.tables) table.local.fill_(-1);
  state.scalars.clear();
  return state;
}

inline void expect_same(const CheckpointState& found, const CheckpointState& expected) {
  EXPECT_EQ(found.step, expected.step);
  EXPECT_EQ(found.scalars, expected.scalars);
  ASSERT_EQ(found.dense.size(), expected.dense.size());
  for (const auto& [name, tensor] : expected.dense) {
    EXPECT_EQ(found.dense.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(found.dense.at(name), tensor)) << name;
  }
  for (const auto& [name, table] : expected.tables) {
    EXPECT_EQ(found.tables.at(name).local.scalar_type(), table.local.scalar_type()) << name;
    EXPECT_TRUE(at::equal(found.tables.at(name).local, table.local)) << name;
  }
}

/// A run folder that all ranks share, removed at the end of the test.
class CheckpointFixture : public testing::Test {
 protected:
  void SetUp() override {
    if (world().rank() == 0) dir_.emplace();
    run_ = world().broadcast_host(dir_ ? dir_->path().string() : "", 0);
  }
  void TearDown() override {
    world().barrier();
    dir_.reset();
    world().barrier();
  }

  std::filesystem::path folder(uint64_t step) const { return checkpoint::step_folder(run_, step); }

  std::string load_message(uint64_t step) const {
    auto state = empty_state(64);
    return fault_of([&] { load_checkpoint(folder(step), state, world()); });
  }

  /// Rank 0 changes the folder, the others wait.
  template <typename Work>
  void on_rank_0(Work work) const {
    if (world().rank() == 0) work();
    world().barrier();
  }

  std::optional<TempDir> dir_;  // of rank 0
  std::filesystem::path run_;
};

}  // namespace vixen::test
