// A block of queries goes through the tiles of a part of the labels: product, filter, product, filter. What the filter
// lets by is scored exactly at the end of the part, while its rows are there, and the k best go on to the next part.
#include "search/exact_search_device.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "device/device.hpp"
#include "device/transfer.hpp"
#include "search/device_kernels.hpp"
#include "search/error_bound.hpp"

namespace vixen {
namespace {

/// What tiles are filtered with, weights of all queries included, which are rows first_query .. of what was asked. The
/// host waits for the queries' norms.
FilterBounds bounds_of(const DeviceLabels& labels, const at::Tensor& queries, const at::Tensor& rounded,
                       int64_t first_query) {
  const ErrorModel model(queries.size(1), /*bfloat16=*/true, queries.device());
  const RowBounds norms = row_bounds(queries, rounded, "query", first_query);
  at::Tensor weights = at::empty({queries.size(0), 3}, at::kFloat);
  auto* weight = weights.mutable_data_ptr<float>();
  for (size_t i = 0; i < norms.norm.size(); ++i) {
    const auto [norm, residual, constant] = model.weights(norms.norm[i], norms.residual[i]);
    weight[3 * i] = norm;
    weight[3 * i + 1] = residual;
    weight[3 * i + 2] = constant;
  }
  return {to_device(weights, queries.device()), labels.bounds(), labels.group_bounds(), model.relative()};
}

class DeviceScan {
 public:
  /// found: labels of each list. first_query: the row of the first of them, for messages.
  DeviceScan(const DeviceLabels& labels, const at::Tensor& queries, int64_t first_query, int64_t found,
             const DeviceSizes& sizes)
      : queries_(queries),
        rounded_(queries.to(at::kBFloat16)),
        bounds_(bounds_of(labels, queries_, rounded_, first_query)),
        sizes_(sizes),
        block_(std::min(sizes.queries, queries.size(0))),
        scores_(at::empty({block_, sizes.labels}, rounded_.options())),
        candidates_(block_, found, sizes.capacity, queries.options()) {}

  int64_t block() const { return block_; }

  /// lists [m, found]: rows of the shard, of those before `part`; those of the part join them. Queries begin .. alone.
  void scan(const DevicePart& part, int64_t begin, TopK& lists) {
    const int64_t m = std::min(block_, queries_.size(0) - begin), found = candidates_.k;
    const auto own = [&](const at::Tensor& of) { return of.narrow(0, begin, m); };
    const at::Tensor queries = own(queries_), rounded = own(rounded_);
    const FilterBounds bounds{own(bounds_.weights), bounds_.labels, bounds_.groups, bounds_.relative};
    DeviceCandidates candidates = candidates_.first(m);
    const int64_t known = std::min(found, part.first);
    begin_candidates(candidates, {own(lists.ids), own(lists.scores)}, known);

    int64_t most = known;  // candidates that a query may have
    const int64_t end = part.values.size(0);
    for (int64_t first = 0, columns = 0; first < end; first += columns) {
      columns = std::min(part.first + first == 0 ? sizes_.first_labels : sizes_.labels, end - first);
      at::Tensor tile = scores_.narrow(0, 0, m).narrow(1, 0, columns);
      at::mm_out(tile, rounded, part.rounded.narrow(0, first, columns).t());
      filter_scores(candidates, {tile, part.first + first}, bounds, queries, part, sizes_.limit, most > sizes_.limit);
      most = std::min(most, sizes_.limit) + columns;
    }
    settle_candidates(candidates, queries, part);
    const int64_t now = std::min(found, part.first + end);
    const TopK sorted = in_total_order(candidates, now);
    own(lists.ids).narrow(1, 0, now).copy_(sorted.ids);
    own(lists.scores).narrow(1, 0, now).copy_(sorted.scores);
  }

 private:
  at::Tensor queries_, rounded_;  // float32 and bfloat16 [m, D]
  FilterBounds bounds_;           // weights of all queries
  DeviceSizes sizes_;
  int64_t block_;
  at::Tensor scores_;  // bfloat16 [block, labels of a tile], written again and again, so that it stays in the L2 cache
  DeviceCandidates candidates_;
};

}  // namespace

TopK search_on_device(const DeviceLabels& labels, const at::Tensor& queries, int64_t k, const IndexConfig& config,
                      bool show_progress, int64_t queries_at_a_time) {
  const int64_t m = queries.size(0), n = labels.size(), found = std::min(k, n);
  const auto options = queries.options();
  TopK result{at::full({m, k}, -1, options.dtype(at::kLong)),
              at::full({m, k}, -std::numeric_limits<float>::infinity(), options)};
  if (m == 0 || n == 0) return result;
  const DeviceSizes sizes = device_sizes(config, n, labels.width(), found, l2_cache_bytes(queries.device()));
  TopK lists{result.ids.narrow(1, 0, found), result.scores.narrow(1, 0, found)};
  Progress progress("search", "queries", m, show_progress);
  // Rows that are streamed come up once for all queries; those that are here are gone through again for the next ones.
  const int64_t at_a_time = labels.streamed() ? m : std::min(m, queries_at_a_time);
  for (int64_t first = 0; first < m; first += at_a_time) {
    const int64_t count = std::min(at_a_time, m - first);
    DeviceScan scan(labels, queries.narrow(0, first, count), first, found, sizes);
    TopK own{lists.ids.narrow(0, first, count), lists.scores.narrow(0, first, count)};
    labels.for_each_part([&](const DevicePart& part) {
      const bool last = part.first + part.values.size(0) == n;
      for (int64_t begin = 0; begin < count; begin += scan.block()) {
        scan.scan(part, begin, own);
        if (last) progress.advance(std::min(scan.block(), count - begin));
      }
    });
  }
  lists.ids.add_(labels.first_id());
  return result;
}

}  // namespace vixen
