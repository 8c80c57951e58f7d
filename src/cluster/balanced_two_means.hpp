// Balanced 2-means (docs/algorithm.md section 6): a set of unit rows into 2^depth clusters of equal size, over all
// ranks.
//
// The result does not depend on the world size or on threads: scores are canonical dot products, means are sums of
// fixed-point integers (associative, so any order gives the same), ties are broken by row number.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "comm/communicator.hpp"
#include "comm/node_array.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

struct TwoMeansOptions {
  int depth = 0;  // 2^depth leaves
  uint64_t seed = 0;
  uint64_t epoch = 0;       // keys the seeds of the splits
  double tolerance = 1e-4;  // stop when the mean similarity gains less
  int max_iterations = 100;
  bool in_place = false;  // the rows (float32, on the device) become their unit rows, instead of a second table
  bool show_progress = false;
};

/// rows: this rank's shard [n_r, D] float32 or float16 (any norm; normalised inside; zero rows stay zero), dealt by
/// `shards`; on the communicator's device, or in host memory, from where they go to the device as unit rows. Returns
/// the leaf of every global row [n_rows]. Leaf sizes differ by at most one per level; a set of one stays at its first
/// child. Collective.
NodeArray<int32_t> balanced_two_means(const at::Tensor& rows, const RowShards& shards, const TwoMeansOptions& options,
                                      Communicator& comm);

/// Bytes of tensors that balanced_two_means holds at its fullest besides the rows it was given, on a rank with so many.
int64_t two_means_bytes(int64_t local_rows, int64_t width, int64_t world_size, bool cpu, bool in_place);

/// 2^ceil(log2(n_rows / cluster_size)) leaves -> depth (0 when cluster_size >= n_rows).
int depth_for_cluster_size(int64_t n_rows, int64_t cluster_size);
/// C rounded up to a power of two, or the largest power of two <= n_labels when it exceeds n_labels -> depth.
int depth_for_free_vectors(int64_t free_vectors, int64_t n_labels);

}  // namespace vixen
