// A node's whole subtree of balanced 2-means.
#include "cluster/two_means_subtree.hpp"

#include <algorithm>

#include "cluster/two_means_arithmetic.hpp"

namespace vixen::two_means {

SubtreeSplitter::SubtreeSplitter(const float* rows, int64_t width, const TwoMeansOptions& options)
    : rows_(rows),
      width_(width),
      options_(options),
      second_sum_(static_cast<size_t>(width)),
      difference_(static_cast<size_t>(width)),
      sums_(static_cast<size_t>(options.depth), std::vector<double>(2 * static_cast<size_t>(width))) {}

void SubtreeSplitter::split(std::span<int32_t> members, const double* sum, uint64_t heap_node, int level,
                            int32_t* leaves) {
  if (members.empty()) return;
  if (level == options_.depth || members.size() == 1) {
    // A set of one goes to the first child of each level.
    const uint64_t leaf = (heap_node << (options_.depth - level)) - (uint64_t{1} << options_.depth);
    std::fill_n(leaves, members.size(), static_cast<int32_t>(leaf));
    return;
  }
  double* first_sum = sums_[static_cast<size_t>(level)].data();
  double* second_sum = first_sum + width_;
  halve(members, sum, heap_node, first_sum);
  for (int64_t d = 0; d < width_; ++d) second_sum[d] = sum[d] - first_sum[d];
  const size_t half = (members.size() + 1) / 2;
  split(members.first(half), first_sum, 2 * heap_node, level + 1, leaves);
  split(members.subspan(half), second_sum, 2 * heap_node + 1, level + 1, leaves + half);
}

void SubtreeSplitter::halve(std::span<int32_t> members, const double* sum, uint64_t heap_node, double* first_sum) {
  const auto m = std::ssize(members);
  scores_.resize(members.size());
  new_side_.resize(members.size());
  side_.assign(members.size(), 1);
  std::fill_n(first_sum, width_, 0.0);

  const auto [first_seed, second_seed] = seed_places(options_.seed, options_.epoch, heap_node, m);
  std::fill(difference_.begin(), difference_.end(), 0.0);
  add_row(difference_.data(), row(members[static_cast<size_t>(first_seed)]), -1.0, width_);
  add_row(difference_.data(), row(members[static_cast<size_t>(second_seed)]), 1.0, width_);

  double last = -2.0;  // below any mean
  for (int iteration = 0; iteration < options_.max_iterations; ++iteration) {
    for (size_t i = 0; i < members.size(); ++i) {
      scores_[i] = static_cast<float>(exact_dot(row(members[i]), difference_.data(), width_));
    }
    split_in_half(scores_.data(), m, new_side_.data(), keys_);
    for (size_t i = 0; i < members.size(); ++i) {
      if (new_side_[i] != side_[i]) add_row(first_sum, row(members[i]), new_side_[i] == 0 ? 1.0 : -1.0, width_);
    }
    side_.swap(new_side_);
    for (int64_t d = 0; d < width_; ++d) second_sum_[static_cast<size_t>(d)] = sum[d] - first_sum[d];
    const double similarity = centroid_difference(first_sum, second_sum_.data(), difference_.data(), width_, scratch_) /
                              static_cast<double>(m);
    if (similarity - last < options_.tolerance) break;
    last = similarity;
  }

  second_half_.clear();
  size_t first = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    if (side_[i] == 0) {
      members[first++] = members[i];
    } else {
      second_half_.push_back(members[i]);
    }
  }
  std::copy(second_half_.begin(), second_half_.end(), members.begin() + static_cast<std::ptrdiff_t>(first));
}

}  // namespace vixen::two_means
