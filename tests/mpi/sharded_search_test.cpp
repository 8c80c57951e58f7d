// Sharded search: whatever the world size, the lists are those of one rank to the bit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "mpi/mpi_main.hpp"
#include "mpi/nodes.hpp"
#include "search/exact_search.hpp"
#include "search/faiss_flat_index.hpp"
#include "search/prefilter.hpp"
#include "search/sharded_search.hpp"
#include "shard/row_shards.hpp"

namespace vixen {
namespace {

using test::world;

/// The same rows on every rank.
at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

IndexConfig make_options(int64_t block_queries, Prefilter prefilter = Prefilter::kAuto) {
  IndexConfig options;
  options.prefilter = prefilter;
  options.block_queries = block_queries;
  options.block_labels = 300;
  return options;
}

/// Searches with labels dealt by `deal` and queries dealt unevenly; compares this rank's rows with a search by one
/// rank.
void check(const at::Tensor& labels, const at::Tensor& queries, const RowShards& deal, int64_t k,
           const IndexConfig& options) {
  const int rank = world().rank(), ranks = world().world_size();
  const TopK expected = ExactIndex(labels, 0, options).search(queries, k);
  const RowRange own = deal.range(rank);
  const ExactIndex index(labels.slice(0, own.begin, own.end), own.begin, options);
  // The last rank asks for most; the first may have nothing to ask.
  const int64_t m = queries.size(0);
  const int64_t begin = m * rank * rank / (ranks * ranks), end = m * (rank + 1) * (rank + 1) / (ranks * ranks);
  for (const auto& comm : test::communicators_by_node_size()) {
    const TopK found = sharded_search(index, queries.slice(0, begin, end), k, options.block_queries, *comm);
    EXPECT_TRUE(at::equal(found.ids, expected.ids.slice(0, begin, end))) << "rank " << rank;
    EXPECT_TRUE(at::equal(found.scores, expected.scores.slice(0, begin, end))) << "rank " << rank;
  }
}

TEST(ShardedSearch, IsTheSearchOfOneRankToTheBit) {
  const at::Tensor labels = random_rows(2000, 32, 1), queries = random_rows(150, 32, 2);
  const RowShards deal(2000, world().world_size(), 64);
  for (const auto& kind : prefilter_kinds()) {
    for (const int64_t k : {1, 10, 700, 2500}) {
      for (const int64_t block : {16, 1024}) {
        test::step(fmt::format("{} k {} block {}", kind.name, k, block));
        check(labels, queries, deal, k, make_options(block, kind.value));
      }
    }
  }
}

TEST(ShardedSearch, RanksMayTakeDifferentPrefilters) {
  // `auto` is measured on every rank by itself.
  const at::Tensor labels = random_rows(2000, 32, 11).to(at::kHalf), queries = random_rows(100, 32, 12);
  const RowRange own = RowShards(2000, world().world_size(), 64).range(world().rank());
  const auto& kinds = prefilter_kinds();
  const auto own_kind = static_cast<size_t>(world().rank()) % kinds.size();
  const ExactIndex index(labels.slice(0, own.begin, own.end), own.begin, make_options(16, kinds[own_kind].value));
  const TopK found = sharded_search(index, queries, 50, /*block_queries=*/16, world());
  const TopK expected = ExactIndex(labels, 0, make_options(16, Prefilter::kFloat32)).search(queries, 50);
  EXPECT_TRUE(at::equal(found.ids, expected.ids));
  EXPECT_TRUE(at::equal(found.scores, expected.scores));
}

TEST(ShardedSearch, TiesAcrossRanksGoByGlobalId) {
  const at::Tensor labels = random_rows(50, 16, 3).sign().repeat({40, 1});
  for (const auto& kind : prefilter_kinds()) {
    check(labels, random_rows(60, 16, 4).sign(), RowShards(2000, world().world_size(), 64), 100,
          make_options(32, kind.value));
  }
}

TEST(ShardedSearch, RanksWithoutLabelsOrQueries) {
  const at::Tensor labels = random_rows(30, 8, 5);
  // One block: a single rank holds every label.
  check(labels, random_rows(5, 8, 6), RowShards(30, world().world_size(), 512), 12, make_options(4));
  check(labels, random_rows(1, 8, 7), RowShards(30, world().world_size(), 8), 40, make_options(4));
  check(labels, at::empty({0, 8}), RowShards(30, world().world_size(), 8), 3, make_options(4));
}

TEST(ShardedSearch, AnyIndexCanBeSharded) {
  const at::Tensor labels = random_rows(1500, 24, 8), queries = random_rows(40, 24, 9);
  const RowRange own = RowShards(1500, world().world_size(), 64).range(world().rank());
  const FaissFlatIndex index(labels.slice(0, own.begin, own.end), own.begin);
  const TopK found = sharded_search(index, queries, 15, /*block_queries=*/8, world());
  EXPECT_TRUE(at::equal(found.ids, ExactIndex(labels, 0, make_options(8)).search(queries, 15).ids));
}

}  // namespace
}  // namespace vixen
