// Balanced 2-means: the first levels by all ranks together, then whole subtrees dealt to ranks and threads.
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
#include "cluster/two_means_arithmetic.hpp"
#include "cluster/two_means_levels.hpp"
#include "cluster/two_means_subtree.hpp"

namespace vixen {

namespace {

using two_means::Level;
using two_means::RowPath;

// Subtrees for each thread of each rank: enough to keep them busy to the end.
constexpr int64_t kSubtreesPerThread = 4;

// Rows of whole nodes in this rank's memory, and where each node's rows lie.
struct DealtNodes {
  int64_t first_node = 0, last_node = 0;  // this rank's [first, last)
  at::Tensor rows;                        // float32 [m, D]
  std::vector<int32_t> places;            // of each member of these nodes, in the order of Level::members
};

int64_t first_node_of(int64_t nodes, int rank, int world_size) {
  return nodes * rank / world_size;
}

// Sends every row to the rank that its node is dealt to; lets go of unit_rows before others' come in. Collective.
DealtNodes deal_nodes(const Level& level, at::Tensor unit_rows, const RowShards& shards, Communicator& comm) {
  const int own = comm.rank(), ranks = comm.world_size();
  const int64_t nodes = std::ssize(level.begins) - 1;
  DealtNodes dealt;
  dealt.first_node = first_node_of(nodes, own, ranks);
  dealt.last_node = first_node_of(nodes, own + 1, ranks);
  if (ranks == 1) {
    dealt.rows = std::move(unit_rows);
    dealt.places = level.members;
    return dealt;
  }
  const RowRange own_rows = shards.range(own);
  std::vector<int64_t> send, send_counts, receive_counts;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto before = std::ssize(send);
    const int64_t begin = level.begins[static_cast<size_t>(first_node_of(nodes, rank, ranks))];
    const int64_t end = level.begins[static_cast<size_t>(first_node_of(nodes, rank + 1, ranks))];
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = level.members[static_cast<size_t>(i)];
      if (own_rows.contains(row)) send.push_back(row - own_rows.begin);
    }
    send_counts.push_back(std::ssize(send) - before);
  }
  // What arrives: by source rank, and from each in the order of members.
  const int64_t begin = level.begins[static_cast<size_t>(dealt.first_node)];
  const int64_t end = level.begins[static_cast<size_t>(dealt.last_node)];
  dealt.places.resize(static_cast<size_t>(end - begin));
  int32_t place = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const RowRange theirs = shards.range(rank);
    const int32_t before = place;
    for (int64_t i = begin; i < end; ++i) {
      if (theirs.contains(level.members[static_cast<size_t>(i)]))
        dealt.places[static_cast<size_t>(i - begin)] = place++;
    }
    receive_counts.push_back(place - before);
  }
  const at::Tensor index = at::from_blob(send.data(), {std::ssize(send)}, at::kLong);
  const at::Tensor sent = unit_rows.index_select(0, index);
  unit_rows.reset();
  dealt.rows = comm.all_to_all_rows(sent, send_counts, receive_counts);
  return dealt;
}

// The leaf of every place of level.members, all ranks' together. Collective.
at::Tensor split_subtrees(const Level& level, const DealtNodes& dealt, const TwoMeansOptions& options,
                          Communicator& comm, Progress& progress, std::vector<int32_t>& leaf_members) {
  const int64_t width = dealt.rows.size(1);
  const float* rows = dealt.rows.const_data_ptr<float>();
  const int64_t begin = level.begins[static_cast<size_t>(dealt.first_node)];
  const int64_t end = level.begins[static_cast<size_t>(dealt.last_node)];
  // Splitting reorders places; places and members stand in a one-to-one order, so note who is who first.
  std::vector<int32_t> member_of_place(static_cast<size_t>(dealt.rows.size(0)));
  for (int64_t i = begin; i < end; ++i) {
    member_of_place[static_cast<size_t>(dealt.places[static_cast<size_t>(i - begin)])] =
        level.members[static_cast<size_t>(i)];
  }
  std::vector<int32_t> places = dealt.places;
  at::Tensor leaves = at::empty({end - begin}, at::kInt);
  int32_t* leaf = leaves.data_ptr<int32_t>();
#pragma omp parallel
  {
    two_means::SubtreeSplitter splitter(rows, width, options);
#pragma omp for schedule(dynamic)
    for (int64_t node = dealt.first_node; node < dealt.last_node; ++node) {
      const int64_t from = level.begins[static_cast<size_t>(node)], to = level.begins[static_cast<size_t>(node) + 1];
      const auto heap_node = (uint64_t{1} << level.level) + static_cast<uint64_t>(node);
      splitter.split(std::span(places).subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from)),
                     &level.sums[static_cast<size_t>(node * width)], heap_node, level.level, leaf + (from - begin));
#pragma omp critical
      progress.advance((to - from) * (options.depth - level.level) * comm.world_size());
    }
  }
  at::Tensor own_members = at::empty({end - begin}, at::kInt);
  int32_t* member = own_members.data_ptr<int32_t>();
  for (size_t i = 0; i < places.size(); ++i) member[i] = member_of_place[static_cast<size_t>(places[i])];

  std::vector<int64_t> counts;
  counts.reserve(static_cast<size_t>(comm.world_size()));
  const int64_t nodes = std::ssize(level.begins) - 1;
  for (int rank = 0; rank < comm.world_size(); ++rank) {
    counts.push_back(level.begins[static_cast<size_t>(first_node_of(nodes, rank + 1, comm.world_size()))] -
                     level.begins[static_cast<size_t>(first_node_of(nodes, rank, comm.world_size()))]);
  }
  const at::Tensor all_members = comm.all_gather_rows(own_members, counts);
  leaf_members.assign(all_members.const_data_ptr<int32_t>(),
                      all_members.const_data_ptr<int32_t>() + all_members.numel());
  return comm.all_gather_rows(leaves, counts);
}

}  // namespace

at::Tensor balanced_two_means(const at::Tensor& rows, const RowShards& shards, const TwoMeansOptions& options,
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
  at::Tensor result = at::zeros({shards.n_rows()}, at::kInt);
  if (shards.n_rows() == 0 || (options.depth == 0 && !options.in_place)) return result;

  const bool on_host = comm.device().is_cpu();
  const RowPath path = on_host ? RowPath::kLoops : RowPath::kAten;
  at::Tensor unit_rows = options.in_place ? rows : at::empty(rows.sizes(), at::dtype(at::kFloat).device(comm.device()));
  on_host ? two_means::unit_rows_cpu(rows, unit_rows) : two_means::unit_rows_aten(rows, unit_rows);
  const int64_t not_finite = comm.sum_host(two_means::count_not_finite(unit_rows));
  VIXEN_CHECK(not_finite == 0, "balanced_two_means: {} of {} rows are not finite", not_finite, shards.n_rows());
  if (options.depth == 0) return result;

  // How far all ranks go together changes nothing but the time it takes. On a GPU: all the way.
  const int64_t threads = comm.max_host(int64_t{omp_get_max_threads()});
  const auto subtrees = static_cast<uint64_t>(
      comm.world_size() == 1 && threads == 1 ? 1 : kSubtreesPerThread * threads * comm.world_size());
  const int together =
      on_host ? std::min(options.depth, static_cast<int>(std::bit_width(std::bit_ceil(subtrees))) - 1) : options.depth;
  Progress progress("cluster", "rows", shards.n_rows() * options.depth, options.show_progress && comm.rank() == 0);
  Level level = two_means::root_level(unit_rows, shards, comm, path);
  while (level.level < together) {
    level = two_means::split_level(level, unit_rows, shards, options, comm, path);
    progress.advance(shards.n_rows());
  }

  int32_t* leaf_of = result.data_ptr<int32_t>();
  if (together == options.depth) {
    for (size_t node = 0; node + 1 < level.begins.size(); ++node) {
      for (int64_t i = level.begins[node]; i < level.begins[node + 1]; ++i) {
        leaf_of[level.members[static_cast<size_t>(i)]] = static_cast<int32_t>(node);
      }
    }
    return result;
  }
  const DealtNodes dealt = deal_nodes(level, std::move(unit_rows), shards, comm);
  std::vector<int32_t> members;
  const at::Tensor leaves = split_subtrees(level, dealt, options, comm, progress, members);
  const int32_t* leaf = leaves.const_data_ptr<int32_t>();
  for (size_t i = 0; i < members.size(); ++i) leaf_of[members[i]] = leaf[i];
  return result;
}

int64_t two_means_bytes(int64_t local_rows, int64_t width, int64_t world_size, bool cpu, bool in_place) {
  const int64_t table = local_rows * width * static_cast<int64_t>(sizeof(float));
  // On several CPU ranks the rows that are sent and those that come in; by then the unit rows are gone unless they are
  // the caller's.
  if (cpu) return world_size > 1 ? 2 * table : in_place ? 0 : table;
  return (in_place ? 0 : table) + two_means::aten_bytes(local_rows, width);
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
