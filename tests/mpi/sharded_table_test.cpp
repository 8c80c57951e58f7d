// The row-sharded table: gathers and scatters against one whole table that every rank can compute.
#include "comm/sharded_table.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "base/check.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen {
namespace {

using test::world;

at::Tensor random_rows(int64_t n, int64_t width, uint64_t seed) {
  return at::randn({n, width}, at::make_generator<at::CPUGeneratorImpl>(seed), at::dtype(at::kFloat));
}

at::Tensor random_ids(int64_t count, int64_t n_rows, uint64_t seed) {
  return at::randint(n_rows, {count}, at::make_generator<at::CPUGeneratorImpl>(seed), at::dtype(at::kLong));
}

constexpr auto kDevice = TablePlacement::kDevice, kHost = TablePlacement::kHost;

at::Tensor own_rows(const ShardedTable& table, const at::Tensor& whole) {
  return whole.narrow(0, table.local_range().begin, table.local_range().size());
}

TEST(ShardedTable, gather_gives_the_rows_asked_for) {
  for (const auto& [type, placement] :
       {std::pair{at::kFloat, kDevice}, {at::kHalf, kDevice}, {at::kFloat, kHost}, {at::kHalf, kHost}}) {
    for (const int64_t n : {1, 5, 64, 1000}) {
      ShardedTable table(world(), n, 7, type, placement, 4);  // with few rows, some ranks own none
      const at::Tensor whole = random_rows(n, 7, 3).to(type);
      EXPECT_EQ(table.local().abs().sum().item<double>(), 0);
      table.local().copy_(own_rows(table, whole));
      // Ranks ask for different numbers of rows, with repeats; the last rank for none.
      const int rank = world().rank();
      const int64_t count = rank == world().world_size() - 1 && rank > 0 ? 0 : 20 + 13 * rank;
      const at::Tensor ids = random_ids(count, n, 100 + static_cast<uint64_t>(rank));
      const at::Tensor rows = table.gather(ids);
      EXPECT_EQ(rows.scalar_type(), at::kFloat);
      EXPECT_TRUE(at::equal(rows, whole.to(at::kFloat).index_select(0, ids)));
      EXPECT_TRUE(at::equal(table.gather_all(), whole));
    }
  }
}

TEST(ShardedTable, nobody_asks_for_anything) {
  const ShardedTable table(world(), 40, 3, at::kFloat, kHost, 4);
  EXPECT_EQ(table.gather(at::empty({0}, at::kLong)).sizes(), (at::IntArrayRef{0, 3}));
  at::Tensor into = at::ones_like(table.local());
  table.scatter_add(at::empty({0}, at::kLong), at::empty({0, 3}), into);
  EXPECT_TRUE(at::equal(into, at::ones_like(into)));
}

TEST(ShardedTable, scatter_add_sums_in_the_order_of_the_whole_list) {
  // One list of (id, row), dealt to ranks in successive parts: left-to-right sums, the same bits for every W.
  const int64_t n = 50, width = 9, m = 3000;
  const at::Tensor ids = random_ids(m, n, 5), rows = random_rows(m, width, 6), base = random_rows(n, width, 7);
  at::Tensor sum = at::zeros({n, width});
  const auto id = ids.accessor<int64_t, 1>();
  for (int64_t i = 0; i < m; ++i) sum[id[i]].add_(rows[i]);
  const at::Tensor expected = base + sum;

  const ShardedTable table(world(), n, width, at::kFloat, kDevice, 4);
  const RowRange part = batch_slice(m, world().rank(), world().world_size());
  at::Tensor into = own_rows(table, base).clone();
  table.scatter_add(ids.narrow(0, part.begin, part.size()), rows.narrow(0, part.begin, part.size()), into);
  EXPECT_TRUE(at::equal(into, own_rows(table, expected)));
}

TEST(ShardedTable, scatter_add_is_the_transpose_of_gather) {
  const int64_t n = 31, width = 4;
  ShardedTable table(world(), n, width, at::kFloat, kDevice, 2);
  table.local().copy_(own_rows(table, random_rows(n, width, 1)));
  const at::Tensor ids = random_ids(15 + world().rank(), n, 50 + static_cast<uint64_t>(world().rank()));
  const at::Tensor cotangent = random_rows(ids.numel(), width, 60 + static_cast<uint64_t>(world().rank()));
  at::Tensor gradient = at::zeros_like(table.local());
  table.scatter_add(ids, cotangent, gradient);
  const double left = world().sum_host((table.gather(ids) * cotangent).sum(at::kDouble).item<double>());
  const double right = world().sum_host((table.local() * gradient).sum(at::kDouble).item<double>());
  EXPECT_NEAR(left, right, 1e-4);
}

TEST(ShardedTable, assign_replicated_keeps_the_last_of_repeats) {
  for (const auto placement : {kDevice, kHost}) {
    ShardedTable table(world(), 20, 3, at::kHalf, placement, 2);
    const at::Tensor ids = at::tensor({4, 19, 4, 0, 7, 4}, at::kLong);
    const at::Tensor rows = at::arange(18, at::kFloat).view({6, 3});
    table.assign_replicated(ids, rows);
    at::Tensor expected = at::zeros({20, 3});
    for (const auto& [row, from] : {std::pair{19, 1}, std::pair{0, 3}, std::pair{7, 4}, std::pair{4, 5}})
      expected[row] = rows[from];
    EXPECT_TRUE(at::equal(table.gather_all(), expected.to(at::kHalf)));
  }
}

TEST(ShardedTable, assigned_rows_are_there_for_whoever_looks_next) {
  const int64_t n = 300, width = 5;
  enum Look { kGather, kLocal, kOnDevice, kAssign };
  for (const auto type : {at::kFloat, at::kHalf}) {
    ShardedTable on_device(world(), n, width, type, kDevice, 4), on_host(world(), n, width, type, kHost, 4);
    at::Tensor expected = at::zeros({n, width}, type);
    const RowRange own = on_host.local_range();
    for (uint64_t round = 0; round < 12; ++round) {
      const at::Tensor ids = random_ids(40, n, 200 + round);
      at::Tensor rows = random_rows(40, width, 300 + round);
      for (int64_t i = 0; i < 40; ++i) expected[ids[i].item<int64_t>()] = rows[i].to(type);
      on_device.assign_replicated(ids, rows);
      on_host.assign_replicated(ids, rows);
      rows.fill_(-1);  // the caller's again
      const at::Tensor own_expected = own_rows(on_host, expected);
      switch (static_cast<Look>(round % 4)) {
        case kGather: {
          const at::Tensor asked = random_ids(30, n, 400 + round);
          EXPECT_TRUE(at::equal(on_host.gather(asked), expected.to(at::kFloat).index_select(0, asked)));
          EXPECT_TRUE(at::equal(on_host.gather(asked), on_device.gather(asked)));
          break;
        }
        case kLocal:
          EXPECT_TRUE(at::equal(on_host.local(), own_expected));
          break;
        case kOnDevice: {
          const int64_t first = own.size() / 3, count = own.size() - first;
          EXPECT_TRUE(at::equal(on_host.local_on_device(first, count), own_expected.narrow(0, first, count)));
          break;
        }
        case kAssign:  // the next rows come on top of these
          break;
      }
    }
    EXPECT_TRUE(at::equal(on_host.gather_all(), expected));
    EXPECT_TRUE(at::equal(on_device.gather_all(), expected));
    // What gather_all() gave is the caller's, and so are the rows of local().
    on_host.gather_all().zero_();
    EXPECT_TRUE(at::equal(on_host.local(), own_rows(on_host, expected)));
    on_host.local().fill_(2);
    EXPECT_EQ(on_host.gather(at::tensor({n - 1}, at::kLong)).sum().item<double>(), 2.0 * width);
  }
}

// Of ids that all ranks know, each plans its part without a message: the same rows, sums and writes to the bit.
TEST(ShardedTable, what_all_ranks_know_needs_no_messages) {
  const int64_t width = 6;
  for (const auto placement : {kDevice, kHost}) {
    for (const int64_t n : {3, 70, 400}) {
      for (const int64_t m : {0, 1, 5, 333}) {
        ShardedTable table(world(), n, width, at::kHalf, placement, 4);
        table.local().copy_(own_rows(table, random_rows(n, width, 3).to(at::kHalf)));
        const at::Tensor ids = random_ids(m, n, 70 + static_cast<uint64_t>(m)), rows = random_rows(m, width, 71);
        const std::span all(ids.const_data_ptr<int64_t>(), static_cast<size_t>(m));
        const RowRange part = batch_slice(m, world().rank(), world().world_size());
        const auto own = [&](const at::Tensor& whole) { return whole.narrow(0, part.begin, part.size()); };

        EXPECT_TRUE(at::equal(table.gather(table.plan_gather(all)), table.gather(own(ids))));

        at::Tensor planned = at::ones({table.local_range().size(), width}), by_messages = planned.clone();
        table.scatter_add(table.plan_scatter_add(all), own(rows), planned);
        table.scatter_add(own(ids), own(rows), by_messages);
        EXPECT_TRUE(at::equal(planned, by_messages));

        table.assign_replicated(table.plan_assign(all), rows);
        const at::Tensor written = table.gather_all();
        const auto id = ids.accessor<int64_t, 1>();
        at::Tensor expected = random_rows(n, width, 3).to(at::kHalf);
        for (int64_t i = 0; i < m; ++i) expected[id[i]] = rows[i].to(at::kHalf);
        EXPECT_TRUE(at::equal(written, expected));
      }
    }
  }
}

TEST(ShardedTable, wrong_ids_are_refused) {
  const ShardedTable table(world(), 20, 3);
  EXPECT_THROW(table.gather(at::tensor({20}, at::kLong)), BugError);
  EXPECT_THROW(table.gather(at::tensor({-1}, at::kLong)), BugError);
  EXPECT_THROW(table.gather(at::tensor({1}, at::kInt)), BugError);
  const std::vector<int64_t> beyond = {3, 20};
  EXPECT_THROW(table.plan_gather(beyond), BugError);
  EXPECT_THROW(table.plan_scatter_add(beyond), BugError);
  EXPECT_THROW(table.plan_assign(beyond), BugError);
}

}  // namespace
}  // namespace vixen
