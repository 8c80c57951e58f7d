// Balanced 2-means: the first levels by all ranks together, until there is a node for each; then every rank divides
// whole subtrees by itself, their rows in its memory.
//
// Letters: n rows of all ranks, n_r of this one, D width, K nodes of a level.
#include "cluster/balanced_two_means.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <span>
#include <vector>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "cluster/device_kernels.hpp"
#include "cluster/two_means_arithmetic.hpp"
#include "cluster/two_means_levels.hpp"
#include "cluster/two_means_subtree.hpp"
#include "comm/one_rank.hpp"

namespace vixen {

namespace {

using two_means::Level;
using two_means::RowPath;

// Subtrees for each thread of a rank: enough to keep them busy to the end.
constexpr int64_t kSubtreesPerThread = 4;
// Sums of nodes that are divided at a time on a GPU: later levels go part by part.
constexpr int64_t kMostSums = int64_t{32} << 20;

// How many levels all ranks divide together: a node for each, two or more where they cannot be dealt evenly.
int joint_levels(int world_size, int depth) {
  if (world_size == 1) return 0;
  const auto ranks = static_cast<uint64_t>(world_size);
  const uint64_t nodes = std::has_single_bit(ranks) ? ranks : 2 * std::bit_ceil(ranks);
  return std::min(depth, static_cast<int>(std::bit_width(nodes)) - 1);
}

// Whole nodes of a level in this rank's memory.
struct DealtNodes {
  Level level;                          // the rank's own nodes; members are places in rows
  at::Tensor rows;                      // float32 [m, D]
  std::vector<int64_t> sent, received;  // rows to and from each rank
};

int64_t first_node_of(int64_t nodes, int rank, int world_size) {
  return nodes * rank / world_size;
}

// Sends every row to the rank that its node is dealt to; lets go of unit_rows before others' come in. Collective.
DealtNodes deal_nodes(const Level& level, at::Tensor unit_rows, Communicator& comm) {
  const int own = comm.rank(), ranks = comm.world_size();
  const int64_t nodes = level.nodes();
  const auto first_of = [&](int rank) { return first_node_of(nodes, rank, ranks); };
  const int64_t first = first_of(own), last = first_of(own + 1);
  DealtNodes dealt;
  dealt.level = part_of(level, first, last);
  std::vector<int64_t> counts, node_counts, own_nodes(static_cast<size_t>(ranks), last - first);
  for (int64_t node = 0; node < nodes; ++node) counts.push_back(std::ssize(level.members_of(node)));
  for (int rank = 0; rank < ranks; ++rank) {
    node_counts.push_back(first_of(rank + 1) - first_of(rank));
    dealt.sent.push_back(level.begins[static_cast<size_t>(first_of(rank + 1))] -
                         level.begins[static_cast<size_t>(first_of(rank))]);
  }
  // Rows of each of the own nodes that every rank sends, by rank.
  const auto incoming = comm.all_to_all_host(counts, node_counts, own_nodes);
  const auto rows_of = [&](int rank, int64_t node) {
    return incoming[static_cast<size_t>(rank * (last - first) + node)];
  };
  std::vector<int64_t> next;  // place of the next row from each rank
  int64_t place = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    next.push_back(place);
    for (int64_t node = 0; node < last - first; ++node) place += rows_of(rank, node);
    dealt.received.push_back(place - next.back());
  }
  dealt.level.begins = {0};
  dealt.level.members.clear();
  for (int64_t node = 0; node < last - first; ++node) {
    for (int rank = 0; rank < ranks; ++rank)
      for (int64_t i = 0; i < rows_of(rank, node); ++i)
        dealt.level.members.push_back(static_cast<int32_t>(next[static_cast<size_t>(rank)]++));
    dealt.level.begins.push_back(std::ssize(dealt.level.members));
  }
  auto members = at::empty({std::ssize(level.members)}, at::kLong);
  std::copy(level.members.begin(), level.members.end(), members.mutable_data_ptr<int64_t>());
  const at::Tensor sent = unit_rows.index_select(0, members.to(unit_rows.device()));
  unit_rows.reset();
  dealt.rows = comm.all_to_all_rows(sent, dealt.sent, dealt.received);
  return dealt;
}

// The leaves of nodes that this rank has whole.
class LocalTree {
 public:
  /// rows [m, D]; leaves [m] receives the leaf of each row.
  LocalTree(const at::Tensor& rows, const TwoMeansOptions& options, RowPath path, int ranks, Progress& progress,
            std::span<int32_t> leaves)
      : rows_(rows),
        options_(options),
        path_(path),
        comm_(rows.device()),
        ranks_(ranks),
        progress_(progress),
        leaves_(leaves) {}

  void split(Level level) {
    if (path_ == RowPath::kLoops) {
      const int64_t threads = omp_get_max_threads();
      const int64_t subtrees = threads == 1 ? 1 : kSubtreesPerThread * threads;
      while (level.level < options_.depth && level.nodes() < subtrees) level = next_level(level);
      if (level.level < options_.depth) return split_subtrees(level);
    }
    split_by_levels(std::move(level));
  }

 private:
  Level next_level(const Level& level) {
    progress_.advance(std::ssize(level.members) * ranks_);
    return two_means::split_level(level, rows_, options_, comm_, path_);
  }

  void split_by_levels(Level level) {
    while (level.level < options_.depth) {
      const int64_t nodes = level.nodes();
      if (nodes > 1 && 2 * nodes * rows_.size(1) > kMostSums) {
        split_by_levels(part_of(level, 0, nodes / 2));
        split_by_levels(part_of(level, nodes / 2, nodes));
        return;
      }
      level = next_level(level);
    }
    for (int64_t node = 0; node < level.nodes(); ++node)
      for (const int32_t row : level.members_of(node))
        leaves_[static_cast<size_t>(row)] = static_cast<int32_t>(level.first_node + node);
  }

  void split_subtrees(const Level& level) {
    std::vector<int32_t> rows = level.members;  // splitting reorders them
    std::vector<int32_t> leaf(rows.size());
    const int64_t width = rows_.size(1);
#pragma omp parallel
    {
      two_means::SubtreeSplitter splitter(rows_.const_data_ptr<float>(), width, options_);
#pragma omp for schedule(dynamic)
      for (int64_t node = 0; node < level.nodes(); ++node) {
        const auto from = static_cast<size_t>(level.begins[static_cast<size_t>(node)]);
        const auto count = level.members_of(node).size();
        const auto heap_node = (uint64_t{1} << level.level) + static_cast<uint64_t>(level.first_node + node);
        splitter.split(std::span(rows).subspan(from, count), &level.sums[static_cast<size_t>(node * width)], heap_node,
                       level.level, leaf.data() + from);
#pragma omp critical
        progress_.advance(static_cast<int64_t>(count) * (options_.depth - level.level) * ranks_);
      }
    }
    for (size_t i = 0; i < rows.size(); ++i) leaves_[static_cast<size_t>(rows[i])] = leaf[i];
  }

  const at::Tensor& rows_;
  const TwoMeansOptions& options_;
  RowPath path_;
  OneRank comm_;
  int ranks_;
  Progress& progress_;
  std::span<int32_t> leaves_;
};

// The leaf of each of this rank's rows. Collective.
std::vector<int32_t> local_leaves(at::Tensor unit_rows, const TwoMeansOptions& options, Communicator& comm,
                                  RowPath path, Progress& progress) {
  const int64_t n = unit_rows.size(0);
  const int together = joint_levels(comm.world_size(), options.depth);
  Level level = two_means::root_level(unit_rows, comm, path);
  const int64_t all_rows = level.sizes[0];
  while (level.level < together) {
    progress.advance(all_rows);
    level = two_means::split_level(level, unit_rows, options, comm, path);
  }
  std::vector<int32_t> leaves(static_cast<size_t>(n));
  if (comm.world_size() == 1 || together == options.depth) {
    LocalTree(unit_rows, options, path, comm.world_size(), progress, leaves).split(std::move(level));
    return leaves;
  }
  const std::vector<int32_t> members = level.members;
  DealtNodes dealt = deal_nodes(level, std::move(unit_rows), comm);
  std::vector<int32_t> dealt_leaves(static_cast<size_t>(dealt.rows.size(0)));
  LocalTree(dealt.rows, options, path, comm.world_size(), progress, dealt_leaves).split(std::move(dealt.level));
  // Home again, in the order in which the rows were sent.
  const at::Tensor sent = at::from_blob(dealt_leaves.data(), {std::ssize(dealt_leaves)}, at::kInt).to(comm.device());
  const at::Tensor home = comm.all_to_all_rows(sent, dealt.received, dealt.sent).to(at::kCPU);
  for (size_t i = 0; i < members.size(); ++i)
    leaves[static_cast<size_t>(members[i])] = home.const_data_ptr<int32_t>()[i];
  return leaves;
}

}  // namespace

NodeArray<int32_t> balanced_two_means(const at::Tensor& rows, const RowShards& shards, const TwoMeansOptions& options,
                                      Communicator& comm) {
  const c10::NoGradGuard no_gradient;
  VIXEN_CHECK(rows.dim() == 2 && rows.size(0) == shards.range(comm.rank()).size() &&
                  (rows.device() == comm.device() || rows.is_cpu()) &&
                  (rows.scalar_type() == at::kFloat || rows.scalar_type() == at::kHalf) &&
                  shards.world_size() == comm.world_size(),
              "balanced_two_means: float32 or float16 rows [{}, D] on the communicator's device or in host memory are "
              "needed",
              shards.range(comm.rank()).size());
  VIXEN_CHECK(
      !options.in_place || (rows.scalar_type() == at::kFloat && rows.device() == comm.device() && rows.is_contiguous()),
      "balanced_two_means: only contiguous float32 rows on the communicator's device become their unit rows");
  VIXEN_CHECK(options.depth >= 0 && options.depth <= 30 && options.max_iterations >= 1, "depth {}, {} iterations",
              options.depth, options.max_iterations);
  if (shards.n_rows() == 0 || (options.depth == 0 && !options.in_place))
    return NodeArray<int32_t>::zeros(shards.n_rows(), comm);

  const bool on_host = comm.device().is_cpu();
  const RowPath path = on_host ? RowPath::kLoops : RowPath::kDevice;
  at::Tensor unit_rows = options.in_place ? rows : at::empty(rows.sizes(), at::dtype(at::kFloat).device(comm.device()));
  if (on_host)
    two_means::unit_rows_cpu(rows, unit_rows);
  else
    two_means::unit_rows(rows, unit_rows);
  const int64_t not_finite = comm.sum_host(two_means::count_not_finite(unit_rows));
  VIXEN_CHECK(not_finite == 0, "balanced_two_means: {} of {} rows are not finite", not_finite, shards.n_rows());
  if (options.depth == 0) return NodeArray<int32_t>::zeros(shards.n_rows(), comm);
  Progress progress("cluster", "rows", shards.n_rows() * options.depth, options.show_progress && comm.rank() == 0);
  return NodeArray<int32_t>::assembled(local_leaves(std::move(unit_rows), options, comm, path, progress), shards, comm);
}

int64_t two_means_bytes(int64_t local_rows, int64_t width, int64_t world_size, bool cpu, bool in_place) {
  const int64_t table = local_rows * width * static_cast<int64_t>(sizeof(float));
  const int64_t arithmetic = cpu ? 0 : two_means::device_bytes(local_rows, width);
  if (world_size == 1) return (in_place ? 0 : table) + arithmetic;
  // The rows that are sent and those that come in; by then the unit rows are gone unless they are the caller's.
  return std::max(2 * table, table + arithmetic);
}

int depth_for_cluster_size(int64_t n_rows, int64_t cluster_size) {
  VIXEN_CHECK(n_rows >= 0 && cluster_size >= 1, "{} rows in clusters of {}", n_rows, cluster_size);
  const int64_t clusters = (n_rows + cluster_size - 1) / cluster_size;
  return clusters <= 1 ? 0 : std::bit_width(static_cast<uint64_t>(clusters - 1));
}

int depth_for_free_vectors(int64_t free_vectors, int64_t n_labels) {
  VIXEN_CHECK(free_vectors >= 1 && n_labels >= 1, "{} free vectors for {} labels", free_vectors, n_labels);
  const int wanted = std::bit_width(static_cast<uint64_t>(free_vectors - 1));
  const int largest = std::bit_width(static_cast<uint64_t>(n_labels)) - 1;
  return std::min(wanted, largest);
}

}  // namespace vixen
