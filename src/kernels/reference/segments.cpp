// Sums of segments of rows in plain ATen.
#include "kernels/segments.hpp"

#include <ATen/ATen.h>

#include <vector>

#include "device/transfer.hpp"

namespace vixen::reference {

// Segments are summed side by side: pass k adds the k-th row of every segment that has one.
at::Tensor sum_segments(const at::Tensor& rows, std::span<const int64_t> order, std::span<const int64_t> starts) {
  const auto there = [&](const std::vector<int64_t>& numbers) {
    return to_device(at::tensor(at::IntArrayRef(numbers), at::kLong), rows.device());
  };
  at::Tensor sums = at::empty({std::ssize(starts) - 1, rows.size(1)}, rows.options());
  for (int64_t pass = 0;; ++pass) {
    std::vector<int64_t> targets, sources;
    for (int64_t s = 0; s + 1 < std::ssize(starts); ++s) {
      if (starts[s] + pass >= starts[s + 1]) continue;
      targets.push_back(s);
      sources.push_back(order[starts[s] + pass]);
    }
    if (targets.empty()) return sums;
    const at::Tensor values = rows.index_select(0, there(sources));
    if (pass == 0)
      sums = values;  // every segment has a first row
    else
      sums.index_add_(0, there(targets), values);
  }
}

}  // namespace vixen::reference
