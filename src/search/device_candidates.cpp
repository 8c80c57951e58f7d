#include "search/device_candidates.hpp"

#include <ATen/ATen.h>

#include <limits>

#include "base/check.hpp"

namespace vixen {
namespace {

constexpr int64_t kLowWord = 0xffffffff;

/// int32 whose order is that of the floats whose bits these are, and back: its own inverse.
at::Tensor flipped(const at::Tensor& bits) {
  return bits.bitwise_xor(bits.bitwise_right_shift(31).bitwise_and(std::numeric_limits<int32_t>::max()));
}

}  // namespace

DeviceCandidates::DeviceCandidates(int64_t queries, int64_t k_best, int64_t capacity,
                                   const at::TensorOptions& float_options)
    : k(k_best) {
  VIXEN_CHECK(k >= 1 && k <= capacity, "{} candidates for the {} best", capacity, k);
  const auto integers = float_options.dtype(at::kInt);
  label = at::empty({queries, capacity}, integers);
  lower = at::empty({queries, capacity}, float_options);
  upper = at::empty({queries, capacity}, float_options);
  count = at::empty({queries}, integers);
  exact = at::empty({queries}, integers);
  threshold = at::empty({queries}, float_options);
}

DeviceCandidates DeviceCandidates::first(int64_t m) const {
  DeviceCandidates some;
  some.k = k;
  some.label = label.narrow(0, 0, m);
  some.lower = lower.narrow(0, 0, m);
  some.upper = upper.narrow(0, 0, m);
  some.count = count.narrow(0, 0, m);
  some.exact = exact.narrow(0, 0, m);
  some.threshold = threshold.narrow(0, 0, m);
  return some;
}

void begin_candidates(DeviceCandidates& candidates, const TopK& lists, int64_t known) {
  candidates.count.fill_(known);
  candidates.exact.fill_(known);
  if (known < candidates.k) {
    candidates.threshold.fill_(-std::numeric_limits<float>::infinity());
  } else {
    candidates.threshold.copy_(lists.scores.select(1, known - 1));
  }
  if (known == 0) return;
  candidates.label.narrow(1, 0, known).copy_(lists.ids.narrow(1, 0, known));
  candidates.lower.narrow(1, 0, known).copy_(lists.scores.narrow(1, 0, known));
  candidates.upper.narrow(1, 0, known).copy_(lists.scores.narrow(1, 0, known));
}

at::Tensor order_keys(const at::Tensor& scores, const at::Tensor& labels) {
  const at::Tensor order = flipped(scores.contiguous().view(at::kInt)).to(at::kLong);
  return order * (kLowWord + 1) + (kLowWord - labels.to(at::kLong));
}

at::Tensor scores_of_keys(const at::Tensor& keys) {
  return flipped(keys.bitwise_right_shift(32).to(at::kInt)).view(at::kFloat);
}

TopK in_total_order(const DeviceCandidates& candidates, int64_t n) {
  const at::Tensor keys = order_keys(candidates.lower.narrow(1, 0, n), candidates.label.narrow(1, 0, n));
  const at::Tensor sorted = std::get<0>(at::sort(keys, /*stable=*/false, 1, /*descending=*/true));
  return {kLowWord - sorted.bitwise_and(kLowWord), scores_of_keys(sorted)};
}

}  // namespace vixen
