// A node's whole subtree of balanced 2-means by one thread, its rows in this process's memory: no communication.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/balanced_two_means.hpp"

namespace vixen::two_means {

/// Splits one node after another, depth first, so that a small subtree's rows stay in cache. Not thread-safe; make one
/// a thread and reuse it. The arithmetic is that of split_level, to the bit.
class SubtreeSplitter {
 public:
  /// rows: float32 [*, D] unit rows on the grid (two_means_arithmetic.hpp).
  SubtreeSplitter(const float* rows, int64_t width, const TwoMeansOptions& options);

  /// members: places in `rows` of the node's rows, by ascending global row; reordered so that leaf follows leaf.
  /// sum [D]: of the node's rows. heap_node: 1 at the root, children 2h, 2h+1. Writes to leaves[i] the leaf (0-based at
  /// options.depth) of members[i] on return.
  void split(std::span<int32_t> members, const double* sum, uint64_t heap_node, int level, int32_t* leaves);

 private:
  const float* row(int32_t place) const { return rows_ + int64_t{place} * width_; }
  /// Halves members in place (order kept within each half); leaves the first half's sum in first_sum.
  void halve(std::span<int32_t> members, const double* sum, uint64_t heap_node, double* first_sum);

  const float* rows_;
  int64_t width_;
  const TwoMeansOptions& options_;
  std::vector<uint64_t> keys_;
  std::vector<float> scores_;
  std::vector<uint8_t> side_, new_side_;
  std::vector<int32_t> second_half_;
  std::vector<double> second_sum_, difference_, scratch_;
  std::vector<std::vector<double>> sums_;  // by level: first and second half [2 D]
};

}  // namespace vixen::two_means
