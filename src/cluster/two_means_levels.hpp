// The tree of balanced 2-means, level by level, over rows that all ranks share (local shards) and on any device. A rank
// knows of its own rows alone in which node they are; nodes are counted and divided by all ranks together.
//
// Letters: n_r rows of this rank, D width, K nodes of a level.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/balanced_two_means.hpp"
#include "comm/communicator.hpp"

namespace vixen::two_means {

/// Successive nodes of a level, and which of this rank's rows they hold. The rows of a node are in order by rank, then
/// by row: that of the ids where ranks hold successive parts of a table.
struct Level {
  int level = 0;
  int64_t first_node = 0;        // of all nodes of the level; the K here follow
  std::vector<int64_t> sizes;    // [K] rows of each node, of all ranks
  std::vector<int64_t> begins;   // [K + 1] node k has this rank's members[begins[k]] .. members[begins[k + 1])
  std::vector<int32_t> members;  // this rank's rows in these nodes, ascending within a node
  std::vector<double> sums;      // [K, D] sum of each node's unit rows, of all ranks

  int64_t nodes() const { return std::ssize(sizes); }
  /// This rank's rows of a node.
  std::span<const int32_t> members_of(int64_t node) const {
    const auto from = static_cast<size_t>(begins[static_cast<size_t>(node)]);
    return std::span(members).subspan(from, static_cast<size_t>(begins[static_cast<size_t>(node) + 1]) - from);
  }
};

/// Where the row arithmetic runs: plain loops for rows in host memory, cluster/device_kernels.hpp for any device. They
/// give the same bits.
enum class RowPath { kLoops, kDevice };

/// Bytes that the arithmetic takes on a device besides the unit rows of this rank, at most.
int64_t device_bytes(int64_t local_rows, int64_t width);

/// The root: all rows. unit_rows [n_r, D] float32 on the grid (two_means_arithmetic.hpp), on the communicator's device.
/// Collective.
Level root_level(const at::Tensor& unit_rows, Communicator& comm, RowPath path);

/// Splits every node of `level` in two halves. Collective.
Level split_level(const Level& level, const at::Tensor& unit_rows, const TwoMeansOptions& options, Communicator& comm,
                  RowPath path);

/// Nodes [first, last) of a level.
Level part_of(const Level& level, int64_t first, int64_t last);

}  // namespace vixen::two_means
