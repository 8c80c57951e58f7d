#include "train/stragglers.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace vixen {

std::optional<std::string> StragglerWatch::look(std::span<const double> seconds, int64_t step) {
  if (seconds.size() < 2) return std::nullopt;
  // The lower of two in the middle: of two ranks, the faster.
  std::vector<double> sorted(seconds.begin(), seconds.end());
  const auto middle = sorted.begin() + (std::ssize(sorted) - 1) / 2;
  std::nth_element(sorted.begin(), middle, sorted.end());
  const double median = *middle;
  const auto slowest = std::max_element(seconds.begin(), seconds.end());
  const auto rank = slowest - seconds.begin();
  if (median <= 0 || *slowest <= kSlow * median) {
    slowest_ = -1;
    looks_ = 0;
    return std::nullopt;
  }
  looks_ = rank == slowest_ ? looks_ + 1 : 1;
  slowest_ = rank;
  if (looks_ != kLooks) return std::nullopt;
  return fmt::format(
      "step {}: rank {} on {} takes {:.3g} s for its part of a step, the median rank {:.3g} s ({:.1f} times as long): "
      "all others wait for it. Look at that node: vixen doctor, other programs, clocks",
      step, rank, hosts_.at(static_cast<size_t>(rank)), *slowest, median, *slowest / median);
}

}  // namespace vixen
