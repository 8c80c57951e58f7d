// Sharded search of ranks that each have a pretend device: the lists of one rank on its CPU, to the bit.
#include "mpi/mpi_main.hpp"
#include "mpi/nodes.hpp"
#include "pretend/reference_kernels.hpp"
#include "pretend/staged_communicator.hpp"
#include "search/exact_search.hpp"
#include "search/sharded_search.hpp"
#include "shard/row_shards.hpp"

namespace vixen::pretend {
namespace {

using test::world;

at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

class PretendShardedSearchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device();
    use_reference_kernels();
    take_faults();
  }
  void TearDown() override { EXPECT_EQ(text_of(take_faults()), ""); }

  // Labels and queries dealt unevenly; on the devices, or labels in host memory.
  static void check(const at::Tensor& labels, const at::Tensor& queries, const RowShards& deal, int64_t k) {
    IndexConfig config;
    config.prefilter = Prefilter::kFloat32;
    config.block_queries = 16;
    config.block_labels = 256;
    const int rank = world().rank(), ranks = world().world_size();
    const TopK expected = ExactIndex(labels, 0, config).search(queries, k);
    const RowRange own = deal.range(rank);
    const at::Tensor shard = labels.slice(0, own.begin, own.end).contiguous();
    const int64_t m = queries.size(0);
    const int64_t begin = m * rank * rank / (ranks * ranks), end = m * (rank + 1) * (rank + 1) / (ranks * ranks);
    const at::Tensor asked = queries.slice(0, begin, end).to(device());
    for (const auto& host : test::communicators_by_node_size()) {
      StagedCommunicator comm(std::shared_ptr<Communicator>(host.get(), [](Communicator*) {}));
      for (const ScaledRows& rows : {ScaledRows(shard.to(device())), ScaledRows::streamed(shard, {}, device())}) {
        const ExactIndex index(rows, own.begin, config);
        const TopK found = sharded_search(index, asked, k, config.block_queries, comm);
        EXPECT_TRUE(found.ids.cpu().equal(expected.ids.slice(0, begin, end))) << "rank " << rank;
        EXPECT_TRUE(found.scores.cpu().equal(expected.scores.slice(0, begin, end))) << "rank " << rank;
      }
    }
  }
};

TEST_F(PretendShardedSearchTest, IsTheSearchOfOneCpuToTheBit) {
  const int ranks = world().world_size();
  for (const int64_t k : {1, 10, 400})
    check(random_rows(1500, 24, 1), random_rows(24, 24, 2), RowShards(1500, ranks, 64), k);
  check(random_rows(1500, 24, 3).to(at::kHalf), random_rows(16, 24, 4), RowShards(1500, ranks, 64), 20);
}

TEST_F(PretendShardedSearchTest, TiesAcrossRanksGoByGlobalId) {
  const at::Tensor labels = random_rows(40, 12, 5).sign().repeat({30, 1});
  check(labels, random_rows(30, 12, 6).sign(), RowShards(1200, world().world_size(), 64), 90);
}

TEST_F(PretendShardedSearchTest, RanksWithoutLabelsOrQueries) {
  const int ranks = world().world_size();
  // One block: a single rank holds every label.
  check(random_rows(30, 8, 7), random_rows(5, 8, 8), RowShards(30, ranks, 512), 12);
  check(random_rows(30, 8, 7), random_rows(1, 8, 9), RowShards(30, ranks, 8), 40);
}

}  // namespace
}  // namespace vixen::pretend
