// Tables in host memory while numerics run on a GPU: the rows that tables on the device give, to the bit.
#include "comm/sharded_table.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "cluster/balanced_two_means.hpp"
#include "commands/numerics.hpp"
#include "device/device.hpp"
#include "device/transfer.hpp"
#include "fixtures/single_rank.hpp"

namespace vixen {
namespace {

// One rank on the first GPU.
class GpuRank final : public test::SingleRank {
 public:
  at::Device device() const override { return {at::kCUDA, 0}; }
};

class GpuTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
    Config config;
    config.device = DeviceKind::kCuda;
    set_numerics(config, /*local_rank=*/0, at::get_num_threads());
  }
  GpuRank comm_;
};

at::Tensor random_rows(int64_t n, int64_t width, uint64_t seed) {
  return at::randn({n, width}, at::make_generator<at::CPUGeneratorImpl>(seed), at::dtype(at::kFloat));
}

at::Tensor random_ids(int64_t count, int64_t n_rows, uint64_t seed) {
  return at::randint(n_rows, {count}, at::make_generator<at::CPUGeneratorImpl>(seed), at::dtype(at::kLong));
}

TEST_F(GpuTableTest, HostRowsComeUpWithTheSameBits) {
  const int64_t n = 5000, width = 384;
  for (const auto type : {at::kFloat, at::kHalf}) {
    ShardedTable on_device(comm_, n, width, type), on_host(comm_, n, width, type, TablePlacement::kHost);
    EXPECT_TRUE(on_device.local().is_cuda());
    EXPECT_TRUE(on_host.local().is_cpu());
    const auto whole = random_rows(n, width, 1);
    on_device.local().copy_(whole);
    on_host.local().copy_(whole);
    const auto ids = random_ids(700, n, 2);
    const auto rows = on_host.gather(ids);
    EXPECT_TRUE(rows.is_cuda());
    EXPECT_EQ(rows.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(rows, on_device.gather(ids)));
    EXPECT_TRUE(on_host.local_on_device(10, 20).is_cuda());
    EXPECT_TRUE(at::equal(on_host.local_on_device(10, 20), on_device.local_on_device(10, 20)));
    EXPECT_TRUE(at::equal(on_host.gather_all(), on_device.gather_all()));
  }
}

// Assignments follow one another while the GPU is busy: none may be seen half done, or after what came later.
TEST_F(GpuTableTest, AssignedRowsArriveInOrder) {
  const int64_t n = 3000, width = 512, batch = 1024;
  ShardedTable on_device(comm_, n, width, at::kHalf);
  ShardedTable on_host(comm_, n, width, at::kHalf, TablePlacement::kHost);
  auto busy = to_device(random_rows(2048, 2048, 3), comm_.device());
  for (uint64_t round = 0; round < 20; ++round) {
    for (int i = 0; i < 8; ++i) busy = at::tanh(at::mm(busy, busy));
    const auto ids = random_ids(batch, n, 10 + round);
    auto rows =
        to_device(random_rows(batch, width, 100 + round), comm_.device()) + busy.narrow(0, 0, 1).narrow(1, 0, 1);
    on_device.assign_replicated(ids, rows);
    on_host.assign_replicated(ids, rows);
    rows.zero_();
    if (round % 3 == 0) {
      const auto asked = random_ids(200, n, 200 + round);
      EXPECT_TRUE(at::equal(on_host.gather(asked), on_device.gather(asked))) << round;
    }
  }
  EXPECT_TRUE(at::equal(on_host.local(), on_device.local().cpu()));
}

TEST_F(GpuTableTest, HostRowsAreClusteredAsThoseOfTheDevice) {
  const int64_t n = 4000;
  const RowShards shards(n, 1);
  const TwoMeansOptions options{.depth = 7, .seed = 3};
  const auto rows = random_rows(n, 96, 4).to(at::kHalf);
  const auto leaves = [&](const at::Tensor& of, Communicator& comm) {
    return balanced_two_means(of, shards, options, comm).tensor();
  };
  const auto expected = leaves(rows.to(comm_.device()), comm_);
  EXPECT_TRUE(at::equal(leaves(rows, comm_), expected));
  test::SingleRank cpu;
  EXPECT_TRUE(at::equal(leaves(rows, cpu), expected));
}

}  // namespace
}  // namespace vixen
