// The search's kernels for devices in ATen operations. No step of them asks the device for a value.
//   m queries of a block, C places of a query, c labels of a tile
#include "search/device_kernels.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kRowBytes = int64_t{256} << 20;  // label rows gathered at a time

/// bool [m, C]: places that hold a candidate, or an exact one.
at::Tensor filled(const DeviceCandidates& candidates, const at::Tensor& count) {
  return at::arange(candidates.capacity(), count.options()).unsqueeze(0) < count.unsqueeze(1);
}

/// The true places of `stays` [m, n] move to the front in their order, and so do columns of `of` [m, n]; C of them.
at::Tensor front_order(const at::Tensor& stays, int64_t capacity) {
  const at::Tensor last = stays.logical_not().to(at::kByte);
  return at::argsort(last, /*stable=*/true, 1, /*descending=*/false).narrow(1, 0, capacity);
}

void take(DeviceCandidates& candidates, const at::Tensor& order, const at::Tensor& stays, const at::Tensor& label,
          const at::Tensor& lower, const at::Tensor& upper) {
  candidates.label.copy_(label.gather(1, order));
  candidates.lower.copy_(lower.gather(1, order));
  candidates.upper.copy_(upper.gather(1, order));
  candidates.count.copy_(stays.sum(1));
}

/// Keeps the candidates where `stays` holds.
void keep(DeviceCandidates& candidates, const at::Tensor& stays) {
  const at::Tensor exact = stays.logical_and(filled(candidates, candidates.exact)).sum(1);
  take(candidates, front_order(stays, candidates.capacity()), stays, candidates.label, candidates.lower,
       candidates.upper);
  candidates.exact.copy_(exact);
}

/// float32 [m, C]: canonical scores; what is no candidate gets those of the part's first row.
at::Tensor canonical_scores(const DeviceCandidates& candidates, const at::Tensor& inexact, const at::Tensor& queries,
                            const DevicePart& part) {
  const int64_t capacity = candidates.capacity(), width = queries.size(1);
  const int64_t step = std::max<int64_t>(1, kRowBytes / std::max<int64_t>(1, capacity * width * 4 * 5));
  const at::Tensor rows = (candidates.label - part.first).masked_fill(inexact.logical_not(), 0).to(at::kLong);
  at::Tensor scores = at::empty_like(candidates.lower);
  for (int64_t begin = 0; begin < candidates.size(); begin += step) {
    const int64_t size = std::min(step, candidates.size() - begin);
    const at::Tensor chosen = rows.narrow(0, begin, size).reshape({-1});
    const at::Tensor wide = divided(part.values.index_select(0, chosen),
                                    part.divisors.defined() ? part.divisors.index_select(0, chosen) : at::Tensor());
    scores.narrow(0, begin, size)
        .copy_(
            reference::canonical_dot(queries.narrow(0, begin, size).unsqueeze(1), wide.view({size, capacity, width})));
  }
  return scores;
}

/// Whether a CPU, where asking costs nothing, has nothing to do for any query. What may run on another device is
/// computed in any case.
bool known_to_be_none(const at::Tensor& which) {
  return which.is_cpu() && !which.any().item<bool>();
}

/// bool [m], `which`: those queries alone.
void compact_by_bounds(DeviceCandidates& candidates, const at::Tensor& which) {
  if (known_to_be_none(which)) return;
  const at::Tensor there = filled(candidates, candidates.count);
  const at::Tensor lower = candidates.lower.masked_fill(there.logical_not(), -kInfinity);
  const at::Tensor kth = std::get<0>(at::topk(lower, candidates.k, 1, true, true)).select(1, candidates.k - 1);
  const at::Tensor raised = which.logical_and(kth > candidates.threshold);
  candidates.threshold.copy_(at::where(raised, kth, candidates.threshold));
  // A query with fewer than k keeps all of them: its threshold is -infinity.
  const at::Tensor reaches = candidates.upper >= candidates.threshold.unsqueeze(1);
  keep(candidates, there.logical_and(reaches.logical_or(which.logical_not().unsqueeze(1))));
}

void compact_exactly(DeviceCandidates& candidates, const at::Tensor& which, const at::Tensor& queries,
                     const DevicePart& part) {
  if (known_to_be_none(which)) return;
  const at::Tensor there = filled(candidates, candidates.count);
  const at::Tensor inexact =
      there.logical_and(filled(candidates, candidates.exact).logical_not()).logical_and(which.unsqueeze(1));
  const at::Tensor canonical = canonical_scores(candidates, inexact, queries, part);
  candidates.lower.copy_(at::where(inexact, canonical, candidates.lower));
  candidates.upper.copy_(at::where(inexact, canonical, candidates.upper));
  candidates.exact.copy_(at::where(which, candidates.count, candidates.exact));
  const at::Tensor keys = order_keys(candidates.lower, candidates.label)
                              .masked_fill(there.logical_not(), std::numeric_limits<int64_t>::min());
  const at::Tensor kth = std::get<0>(at::topk(keys, candidates.k, 1, true, true)).select(1, candidates.k - 1);
  const at::Tensor enough = which.logical_and(candidates.count >= candidates.k);
  const at::Tensor score = scores_of_keys(kth);
  candidates.threshold.copy_(at::where(enough.logical_and(score > candidates.threshold), score, candidates.threshold));
  keep(candidates, there.logical_and((keys >= kth.unsqueeze(1)).logical_or(enough.logical_not().unsqueeze(1))));
}

/// The largest bfloat16 numbers that are not above x: scores whose rounding lies below them lie below x.
at::Tensor round_down_to_bfloat16(const at::Tensor& x) {
  const at::Tensor bits = x.contiguous().view(at::kInt);
  const at::Tensor away = (x < 0).logical_and(bits.bitwise_and(0xffff).ne(0));
  return (bits.bitwise_and(~0xffff) + away.to(at::kInt) * 0x10000).view(at::kFloat);
}

}  // namespace

void reference::filter_scores(DeviceCandidates& candidates, const ScoreTile& tile, const FilterBounds& bounds,
                              const at::Tensor& queries, const DevicePart& part, int64_t limit, bool may_exceed) {
  if (may_exceed) {
    compact_by_bounds(candidates, candidates.count > limit);
    compact_exactly(candidates, candidates.count > limit, queries, part);
  }
  const int64_t columns = tile.scores.size(1), capacity = candidates.capacity();
  const at::Tensor of_labels = bounds.labels.narrow(0, tile.first_label, columns);
  const auto weight = [&](int64_t i) { return bounds.weights.select(1, i).unsqueeze(1); };
  const auto bound = [&](int64_t i) { return of_labels.select(1, i).unsqueeze(0); };
  const at::Tensor absolute = weight(0) * bound(0) + (weight(1) * bound(1) + weight(2));
  const at::Tensor threshold = candidates.threshold.unsqueeze(1);
  const at::Tensor needed =
      round_down_to_bfloat16(threshold - absolute - threshold.abs() * 0x1p-21 - absolute * 0x1p-21);
  const at::Tensor scores = tile.scores.to(at::kFloat);
  const at::Tensor error = absolute + scores.abs() * bounds.relative;

  const at::Tensor stays = at::cat({filled(candidates, candidates.count), scores >= needed}, 1);
  const at::Tensor labels = at::arange(tile.first_label, tile.first_label + columns, candidates.label.options());
  take(candidates, front_order(stays, capacity), stays,
       at::cat({candidates.label, labels.expand({scores.size(0), -1})}, 1),
       at::cat({candidates.lower, scores - error}, 1), at::cat({candidates.upper, scores + error}, 1));
}

void reference::settle_candidates(DeviceCandidates& candidates, const at::Tensor& queries, const DevicePart& part) {
  const at::Tensor all = at::ones({candidates.size()}, candidates.count.options().dtype(at::kBool));
  compact_by_bounds(candidates, all);
  compact_exactly(candidates, all, queries, part);
}

at::Tensor reference::canonical_dot(const at::Tensor& a, const at::Tensor& b) {
  const int64_t d = a.size(-1);
  at::Tensor lanes;
  for (int64_t i = 0; i < d; i += kDotLanes) {
    const int64_t width = std::min(kDotLanes, d - i);
    at::Tensor product = a.narrow(-1, i, width).to(at::kDouble) * b.narrow(-1, i, width).to(at::kDouble);
    if (width < kDotLanes) product = at::constant_pad_nd(product, {0, kDotLanes - width});
    // The sum starts from +0 as on the CPU.
    lanes = lanes.defined() ? lanes + product : product + 0.0;
  }
  if (!lanes.defined()) return (a * b).sum(-1);
  for (int64_t half = kDotLanes / 2; half > 0; half /= 2) {
    lanes = lanes.narrow(-1, 0, half) + lanes.narrow(-1, half, half);
  }
  return lanes.squeeze(-1).to(at::kFloat) + 0.0;
}

}  // namespace vixen
