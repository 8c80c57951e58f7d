// Balanced 2-means: against a plain recursive rendering, and the same bits for every world size.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <map>
#include <numeric>

#include "base/check.hpp"
#include "cluster/balanced_two_means.hpp"
#include "cluster/device_kernels.hpp"
#include "cluster/two_means_arithmetic.hpp"
#include "cluster/two_means_levels.hpp"
#include "cluster/two_means_median.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen {
namespace {

using test::world;

// The same rows on every rank.
at::Tensor random_rows(int64_t n, int64_t width, uint64_t seed) {
  return at::randn({n, width}, at::make_generator<at::CPUGeneratorImpl>(seed), at::dtype(at::kFloat));
}

at::Tensor shard_of(const at::Tensor& rows, const RowShards& shards) {
  const RowRange own = shards.range(world().rank());
  return rows.narrow(0, own.begin, own.size()).contiguous();
}

at::Tensor unit_rows_by_reference(const at::Tensor& rows) {
  at::Tensor unit = at::empty(rows.sizes(), at::kFloat);
  two_means::reference::unit_rows(rows, unit);
  return unit;
}

std::vector<int32_t> to_vector(const NodeArray<int32_t>& leaves) {
  return {leaves.view().begin(), leaves.view().end()};
}

std::vector<int32_t> cluster(const at::Tensor& rows, const TwoMeansOptions& options, int64_t block_rows = 8) {
  const RowShards shards(rows.size(0), world().world_size(), block_rows);
  return to_vector(balanced_two_means(shard_of(rows, shards), shards, options, world()));
}

// A rendering of docs/algorithm.md section 6 that shares only the draw of the seeds: sorts, long double, recursion.
class Reference {
 public:
  Reference(const at::Tensor& rows, const TwoMeansOptions& options)
      : rows_(unit_rows_by_reference(rows)), options_(options), leaves(static_cast<size_t>(rows.size(0))) {
    std::vector<int64_t> all(leaves.size());
    std::iota(all.begin(), all.end(), int64_t{0});
    split(all, 1, 0);
  }

 private:
  using Vector = std::vector<long double>;
  float x(int64_t row, int64_t d) const { return rows_.const_data_ptr<float>()[row * rows_.size(1) + d]; }

  Vector mean_direction(const std::vector<int64_t>& members) const {
    Vector sum(static_cast<size_t>(rows_.size(1)), 0);
    long double square = 0;
    for (const int64_t row : members) {
      for (size_t d = 0; d < sum.size(); ++d) sum[d] += x(row, static_cast<int64_t>(d));
    }
    for (const long double value : sum) square += value * value;
    if (square > 0) {
      for (long double& value : sum) value /= std::sqrt(square);
    }
    return sum;
  }
  long double dot(int64_t row, const Vector& v) const {
    long double sum = 0;
    for (size_t d = 0; d < v.size(); ++d) sum += x(row, static_cast<int64_t>(d)) * v[d];
    return sum;
  }

  void split(const std::vector<int64_t>& members, uint64_t heap_node, int level) {
    if (members.empty()) return;
    if (level == options_.depth) {
      for (const int64_t row : members)
        leaves[static_cast<size_t>(row)] = static_cast<int32_t>(heap_node - (uint64_t{1} << level));
      return;
    }
    if (members.size() == 1) return split(members, 2 * heap_node, level + 1);
    const auto [first, second] = two_means::seed_places(options_.seed, options_.epoch, heap_node, std::ssize(members));
    Vector c1 = mean_direction({members[static_cast<size_t>(first)]}),
           c2 = mean_direction({members[static_cast<size_t>(second)]});
    for (size_t d = 0; d < c1.size(); ++d) {  // seeds are rows as they are
      c1[d] = x(members[static_cast<size_t>(first)], static_cast<int64_t>(d));
      c2[d] = x(members[static_cast<size_t>(second)], static_cast<int64_t>(d));
    }
    std::vector<int64_t> left, right;
    long double last = -2;
    for (int iteration = 0; iteration < options_.max_iterations; ++iteration) {
      std::vector<std::pair<float, int64_t>> order;
      Vector difference(c1.size());
      for (size_t d = 0; d < c1.size(); ++d) difference[d] = std::nearbyint((c2[d] - c1[d]) * 0x1p24L) * 0x1p-24L;
      for (const int64_t row : members)
        order.emplace_back(static_cast<float>(static_cast<double>(dot(row, difference))), row);
      std::sort(order.begin(), order.end());
      left.clear(), right.clear();
      for (size_t i = 0; i < order.size(); ++i) (i < (order.size() + 1) / 2 ? left : right).push_back(order[i].second);
      c1 = mean_direction(left), c2 = mean_direction(right);
      long double similarity = 0;
      for (const int64_t row : left) similarity += dot(row, c1);
      for (const int64_t row : right) similarity += dot(row, c2);
      similarity /= std::ssize(members);
      if (similarity - last < options_.tolerance) break;
      last = similarity;
    }
    std::sort(left.begin(), left.end());
    std::sort(right.begin(), right.end());
    split(left, 2 * heap_node, level + 1);
    split(right, 2 * heap_node + 1, level + 1);
  }

  at::Tensor rows_;
  TwoMeansOptions options_;

 public:
  std::vector<int32_t> leaves;
};

void check_sizes(const std::vector<int32_t>& leaves, int depth) {
  std::map<int32_t, int64_t> sizes;
  for (const int32_t leaf : leaves) {
    ASSERT_GE(leaf, 0);
    ASSERT_LT(leaf, int64_t{1} << depth);
    ++sizes[leaf];
  }
  // Halving with the odd one to the first child gives floor or ceil of n / 2^depth.
  const int64_t n = std::ssize(leaves), most = (n + (int64_t{1} << depth) - 1) >> depth;
  for (const auto& [leaf, size] : sizes) {
    EXPECT_LE(size, most) << "leaf " << leaf;
    EXPECT_GE(size, n >> depth) << "leaf " << leaf;
  }
  if (n >= (int64_t{1} << depth)) {
    EXPECT_EQ(std::ssize(sizes), int64_t{1} << depth);
  }
}

// FNV-1a over the leaves.
uint64_t hash_of(const std::vector<int32_t>& leaves) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const int32_t leaf : leaves) hash = (hash ^ static_cast<uint32_t>(leaf)) * 0x100000001b3u;
  return hash;
}

TEST(TwoMeans, equals_the_recursive_rendering) {
  for (const auto& [n, width, depth] :
       {std::tuple{1000, 16, 5}, std::tuple{613, 33, 9}, std::tuple{37, 5, 6}, std::tuple{5, 3, 4}, std::tuple{2, 1, 1},
        std::tuple{1, 4, 3}, std::tuple{300, 384, 8}}) {
    test::step(fmt::format("n {} width {} depth {}", n, width, depth));
    const at::Tensor rows = random_rows(n, width, 11);
    const TwoMeansOptions options{.depth = depth, .seed = 3, .epoch = 5};
    const auto leaves = cluster(rows, options);
    EXPECT_EQ(leaves, Reference(rows, options).leaves) << n << " x " << width;
    check_sizes(leaves, depth);
  }
}

TEST(TwoMeans, does_not_depend_on_world_size_blocks_or_threads) {
  const at::Tensor rows = random_rows(5003, 48, 4);
  const TwoMeansOptions options{.depth = 9, .seed = 1, .epoch = 2};
  const auto leaves = cluster(rows, options);
  // The reference knows nothing of ranks: equal to it at every world size is equal across world sizes.
  EXPECT_EQ(leaves, Reference(rows, options).leaves);
  EXPECT_EQ(leaves, cluster(rows, options, 512));
  EXPECT_EQ(leaves, cluster(rows, options, 5003));  // one rank owns all rows
  const auto all = world().all_gather_host(static_cast<int64_t>(hash_of(leaves)));
  for (const int64_t hash : all) EXPECT_EQ(hash, all[0]);
  // float16 rows: the same as their float32 values.
  const RowShards shards(5003, world().world_size());
  const at::Tensor half = rows.to(at::kHalf);
  EXPECT_EQ(to_vector(balanced_two_means(shard_of(half, shards), shards, options, world())),
            cluster(half.to(at::kFloat), options));
}

// Whole rows repeat, so that most scores are equal and many borders lie among equal ones on several ranks.
TEST(TwoMeans, equal_rows_are_divided_by_their_places) {
  const at::Tensor rows = random_rows(7, 12, 6).repeat({130, 1});
  for (const int depth : {1, 3, 6}) {
    const TwoMeansOptions options{.depth = depth, .seed = 8};
    const auto leaves = cluster(rows, options);
    EXPECT_EQ(leaves, Reference(rows, options).leaves) << "depth " << depth;
    check_sizes(leaves, depth);
  }
}

// Sets of every size, scores of few values and of many, ranks without a row: what one rank decides.
TEST(TwoMeans, halves_of_scores_that_ranks_share_are_those_of_one_list) {
  for (const int64_t n_sets : {3, 40}) {
    const int ranks = world().world_size(), own = world().rank();
    const at::Tensor random = random_rows(n_sets, 1000, 13);
    std::vector<std::vector<float>> all, mine;
    std::vector<std::vector<uint8_t>> expected, sides;
    std::vector<RowRange> ranges;
    for (int64_t i = 0; i < n_sets; ++i) {
      const int64_t n = 2 + (i * 37) % 999;
      const float* values = random.const_data_ptr<float>() + i * 1000;
      std::vector<float> scores(values, values + n);
      if (i % 2 == 0)
        for (float& score : scores) score = std::round(score);  // -0 among them
      expected.emplace_back(static_cast<size_t>(n));
      std::vector<uint64_t> keys;
      two_means::split_in_half(scores.data(), n, expected.back().data(), keys);
      ranges.push_back(batch_slice(i % 3 == 0 && ranks > 1 ? 0 : n, own, ranks));
      if (i % 3 == 0 && ranks > 1 && own == ranks - 1) ranges.back() = {0, n};  // all on the last rank
      mine.emplace_back(scores.begin() + ranges.back().begin, scores.begin() + ranges.back().end);
      sides.emplace_back(mine.back().size());
    }
    std::vector<two_means::ScoredSet> sets;
    for (size_t i = 0; i < mine.size(); ++i) sets.push_back({std::ssize(expected[i]), mine[i], sides[i]});
    two_means::split_in_halves(sets, world());
    for (size_t i = 0; i < sides.size(); ++i)
      EXPECT_TRUE(std::equal(sides[i].begin(), sides[i].end(), expected[i].begin() + ranges[i].begin)) << "set " << i;
  }
}

TEST(TwoMeans, rows_become_their_unit_rows_in_place) {
  const at::Tensor rows = random_rows(613, 33, 4);
  for (const int depth : {0, 6}) {
    TwoMeansOptions options{.depth = depth, .seed = 3};
    const RowShards shards(613, world().world_size(), 8);
    const auto expected = cluster(rows, options);
    options.in_place = true;
    at::Tensor own = shard_of(rows, shards).clone();
    EXPECT_EQ(to_vector(balanced_two_means(own, shards, options, world())), expected);
    EXPECT_TRUE(at::equal(own, two_means::unit_rows_cpu(shard_of(rows, shards))));
    EXPECT_THROW(balanced_two_means(own.to(at::kHalf), shards, options, world()), BugError);
  }
}

TEST(TwoMeans, rows_that_are_not_finite_are_refused) {
  at::Tensor rows = random_rows(200, 9, 4);
  rows[150][3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(cluster(rows, {.depth = 3}), BugError);
  rows[150][3] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(cluster(rows, {.depth = 3}), BugError);
}

// More values than a device treats at a time, so that a list of rows comes in several chunks that share slots.
TEST(TwoMeans, chunks_of_a_list_change_nothing) {
  const int64_t n = 150000, width = 128;
  const at::Tensor rows = random_rows(n, width, 2);
  const TwoMeansOptions options{.depth = 2, .max_iterations = 2};
  const RowShards shards(n, world().world_size());
  const at::Tensor own = two_means::unit_rows_cpu(shard_of(rows, shards));
  EXPECT_TRUE(at::equal(own, unit_rows_by_reference(shard_of(rows, shards))));
  std::vector<two_means::Level> levels;
  for (const auto path : {two_means::RowPath::kLoops, two_means::RowPath::kDevice}) {
    two_means::Level level = two_means::root_level(own, world(), path);
    while (level.level < options.depth) level = two_means::split_level(level, own, options, world(), path);
    levels.push_back(std::move(level));
  }
  EXPECT_EQ(levels[0].members, levels[1].members);
  EXPECT_EQ(levels[0].sums, levels[1].sums);
}

TEST(TwoMeans, level_by_level_through_a_devices_operators_gives_the_same_bits) {
  const at::Tensor rows = random_rows(777, 40, 9);
  EXPECT_TRUE(at::equal(unit_rows_by_reference(rows), two_means::unit_rows_cpu(rows)));
  EXPECT_TRUE(at::equal(unit_rows_by_reference(rows.to(at::kHalf)), two_means::unit_rows_cpu(rows.to(at::kHalf))));
  const TwoMeansOptions options{.depth = 7, .seed = 2};
  const RowShards shards(777, world().world_size(), 16);
  const at::Tensor own = two_means::unit_rows_cpu(shard_of(rows, shards));
  std::vector<std::vector<int32_t>> results;
  for (const auto path : {two_means::RowPath::kLoops, two_means::RowPath::kDevice}) {
    two_means::Level level = two_means::root_level(own, world(), path);
    while (level.level < options.depth) level = two_means::split_level(level, own, options, world(), path);
    std::vector<int32_t> leaves(static_cast<size_t>(own.size(0)));
    for (int64_t node = 0; node < level.nodes(); ++node)
      for (const int32_t row : level.members_of(node)) leaves[static_cast<size_t>(row)] = static_cast<int32_t>(node);
    results.push_back(to_vector(NodeArray<int32_t>::assembled(leaves, shards, world())));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], cluster(rows, options));
}

TEST(TwoMeans, finds_well_separated_clusters) {
  // 16 clusters of 50 rows around orthogonal directions, interleaved.
  const int64_t clusters = 16, each = 50;
  at::Tensor rows = random_rows(clusters * each, 32, 21).mul_(0.02);
  for (int64_t i = 0; i < clusters * each; ++i) rows[i][i % clusters] += 1;
  const auto leaves = cluster(rows, {.depth = 4, .seed = 7});
  // Seeds are random rows, so a split may cut a cluster in two; most rows must lie with their own kind.
  int64_t together = 0;
  std::map<int32_t, std::map<int64_t, int64_t>> counts;
  for (int64_t i = 0; i < clusters * each; ++i) ++counts[leaves[static_cast<size_t>(i)]][i % clusters];
  for (const auto& [leaf, kinds] : counts) {
    int64_t most = 0;
    for (const auto& [kind, count] : kinds) most = std::max(most, count);
    together += most;
  }
  EXPECT_EQ(together, clusters * each);
}

TEST(TwoMeans, ties_go_by_row_number) {
  for (const float value : {1.0f, 0.0f}) {  // all rows equal, and all rows zero
    const auto leaves = cluster(at::full({101, 8}, value), {.depth = 3, .seed = 1});
    EXPECT_TRUE(std::is_sorted(leaves.begin(), leaves.end()));
    check_sizes(leaves, 3);
  }
}

TEST(TwoMeans, more_leaves_than_rows) {
  const auto leaves = cluster(random_rows(11, 6, 2), {.depth = 10, .seed = 4});
  std::map<int32_t, int> sizes;
  for (const int32_t leaf : leaves) EXPECT_EQ(++sizes[leaf], 1);
  EXPECT_TRUE(cluster(random_rows(0, 6, 2), {.depth = 3}).empty());
  EXPECT_EQ(cluster(random_rows(9, 6, 2), {.depth = 0}), std::vector<int32_t>(9, 0));
}

TEST(TwoMeans, seed_and_epoch_count) {
  const at::Tensor rows = random_rows(400, 12, 6);
  const auto leaves = cluster(rows, {.depth = 5, .seed = 1, .epoch = 0});
  EXPECT_EQ(leaves, cluster(rows, {.depth = 5, .seed = 1, .epoch = 0}));
  EXPECT_NE(leaves, cluster(rows, {.depth = 5, .seed = 2, .epoch = 0}));
  EXPECT_NE(leaves, cluster(rows, {.depth = 5, .seed = 1, .epoch = 1}));
}

TEST(TwoMeans, a_row_that_is_not_finite_is_refused_on_every_rank) {
  at::Tensor rows = random_rows(64, 8, 6);
  rows[63][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(cluster(rows, {.depth = 2}), BugError);
}

}  // namespace
}  // namespace vixen
