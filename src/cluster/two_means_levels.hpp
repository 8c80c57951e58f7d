// The tree of balanced 2-means, level by level, over rows that all ranks share (local shards) and on any device.
//
// Letters: n rows of all ranks, n_r of this one, D width, K = 2^level nodes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "cluster/balanced_two_means.hpp"
#include "comm/communicator.hpp"
#include "shard/row_shards.hpp"

namespace vixen::two_means {

/// Which rows belong to which node of a level; the same on every rank.
struct Level {
  int level = 0;
  std::vector<int64_t> begins;   // [K + 1] node k has members[begins[k]] .. members[begins[k + 1])
  std::vector<int32_t> members;  // [n] global rows, ascending within a node
  std::vector<double> sums;      // [K, D] sum of each node's unit rows
};

/// Where the row arithmetic runs: plain loops for rows in host memory, ATen for any device. They give the same bits.
enum class RowPath { kLoops, kAten };

/// Bytes that the ATen path takes on its device besides the unit rows of this rank, at most.
int64_t aten_bytes(int64_t local_rows, int64_t width);

/// The root: all rows. Collective.
Level root_level(const at::Tensor& unit_rows, const RowShards& shards, Communicator& comm, RowPath path);

/// Splits every node of `level` in two halves. unit_rows [n_r, D] float32 on the grid (two_means_arithmetic.hpp), on
/// the communicator's device. Collective.
Level split_level(const Level& level, const at::Tensor& unit_rows, const RowShards& shards,
                  const TwoMeansOptions& options, Communicator& comm, RowPath path);

}  // namespace vixen::two_means
