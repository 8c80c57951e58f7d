// Arrays kept once a node: values, who writes, memory that is really shared, faults of one rank.
#include "comm/node_array.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/check.hpp"
#include "mpi/mpi_main.hpp"
#include "mpi/nodes.hpp"

namespace vixen {
namespace {

using test::world;

constexpr int64_t kShared = NodeMemory::kLeastShared / 8 + 77;  // int64 values that ranks of a node share

TEST(Nodes, AreNumberedByTheirFirstRanks) {
  const int ranks = world().world_size();
  const auto all = test::communicators_by_node_size();
  for (int rank = 0; rank < ranks; ++rank) {
    const auto at = static_cast<size_t>(rank);
    EXPECT_EQ(all[0]->nodes()[at], 0) << "ranks of one machine share its memory";
    EXPECT_EQ(all[1]->nodes()[at], rank);
    EXPECT_EQ(all[2]->nodes()[at], rank / 2);
  }
}

TEST(NodeArray, IsFilledByOneRankOfANode) {
  for (const auto& comm : test::communicators_by_node_size())
    for (const int64_t n : {int64_t{0}, int64_t{5}, kShared}) {
      int64_t fills = 0;
      const auto array = NodeArray<int64_t>::filled(n, *comm, [&](std::span<int64_t> values) {
        ++fills;
        EXPECT_EQ(std::ssize(values), n);
        std::iota(values.begin(), values.end(), 3);
      });
      ASSERT_EQ(array.size(), n);
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(array[i], i + 3);
      EXPECT_EQ(array.tensor().sizes(), at::IntArrayRef{n});
      if (n > 0) {
        EXPECT_EQ(array.tensor()[n - 1].item<int64_t>(), n + 2);
      }
      const std::set<int> nodes(comm->nodes().begin(), comm->nodes().end());
      EXPECT_EQ(comm->sum_host(fills), n == kShared ? std::ssize(nodes) : comm->world_size());
    }
}

// A later change by the writer is seen by all: it is one memory, not equal copies.
TEST(NodeArray, IsOneMemory) {
  const auto comm = make_mpi_communicator(test::kDeadlineSeconds);
  const NodeMemory memory(NodeMemory::kLeastShared, *comm);
  EXPECT_EQ(memory.writes(), comm->rank() == 0 || memory.writers().size() > 1);
  comm->barrier();
  if (memory.writes()) memory.data().get()[100] = std::byte{42};
  comm->barrier();
  EXPECT_EQ(memory.data().get()[100], std::byte{42});
  EXPECT_EQ(memory.data().get()[101], std::byte{0});
  comm->barrier();
}

TEST(NodeArray, IsAssembledFromTheRowsOfRanks) {
  for (const auto& comm : test::communicators_by_node_size())
    for (const int64_t n : {int64_t{1}, int64_t{1500}, 2 * kShared}) {
      const RowShards shards(n, comm->world_size());
      const RowRange own = shards.range(comm->rank());
      std::vector<int32_t> rows(static_cast<size_t>(own.size()));
      for (int64_t i = 0; i < own.size(); ++i) rows[static_cast<size_t>(i)] = static_cast<int32_t>(7 * (own.begin + i));
      const auto array = NodeArray<int32_t>::assembled(rows, shards, *comm);
      ASSERT_EQ(array.size(), n);
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(array[i], 7 * i);
    }
}

TEST(NodeArray, AFaultOfAWriterIsEveryones) {
  for (const auto& comm : test::communicators_by_node_size())
    EXPECT_THROW(NodeArray<double>::filled(kShared, *comm, [](std::span<double>) { fail_user("no weights"); }),
                 UserError);
}

TEST(NodeArray, TakesTensorsOfEitherWidth) {
  const auto values = at::arange(kShared, at::kLong);
  for (const auto type : {at::kLong, at::kInt}) {
    const auto array = shared_ints(values.to(type), world());
    EXPECT_TRUE(array.tensor().equal(values.to(at::kInt)));
  }
}

}  // namespace
}  // namespace vixen
