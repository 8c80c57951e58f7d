// Each query keeps its K' > k best labels by the inexact score. They suffice when the K'-th cannot reach the k-th by
// the error bound; queries for which that does not hold are searched again with a larger K'.
#include "search/exact_search_aten.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "search/error_bound.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kRescoreBytes = int64_t{256} << 20;  // label rows gathered at a time
constexpr int64_t kExtra = 64;                         // K' - k at first

/// Sorts rows by (score descending, id ascending) and keeps k. ids, scores: [m, c].
TopK best_of(const at::Tensor& ids, const at::Tensor& scores, int64_t k) {
  const at::Tensor by_id = at::argsort(ids, /*stable=*/true, 1, false);
  const at::Tensor sorted_scores = scores.gather(1, by_id);
  const auto by_score = at::sort(sorted_scores, /*stable=*/true, 1, true);
  const int64_t kept = std::min(k, ids.size(1));
  const at::Tensor order = std::get<1>(by_score).narrow(1, 0, kept);
  return {ids.gather(1, by_id).gather(1, order), std::get<0>(by_score).narrow(1, 0, kept).contiguous()};
}

/// Canonical scores of chosen labels: rows [m, c] of label numbers -> float32 [m, c]; a few queries at a time.
at::Tensor rescore(const ScaledRows& labels, const at::Tensor& queries, const at::Tensor& chosen) {
  const int64_t c = chosen.size(1), d = labels.width();
  const int64_t step = std::max<int64_t>(1, kRescoreBytes / std::max<int64_t>(1, c * d * 4 * 5));
  at::Tensor scores = at::empty(chosen.sizes(), queries.options());
  for (int64_t begin = 0; begin < chosen.size(0); begin += step) {
    const int64_t size = std::min(step, chosen.size(0) - begin);
    const at::Tensor rows = labels.pick(chosen.narrow(0, begin, size).reshape({-1})).view({size, c, d});
    scores.narrow(0, begin, size).copy_(canonical_dot_aten(queries.narrow(0, begin, size).unsqueeze(1), rows));
  }
  return scores;
}

/// The answer for a block of queries, with at most `width` candidates each; `enough` [m] tells for which it is proven.
TopK search_block(const LabelRows& labels, const at::Tensor& queries, int64_t k, int64_t width, at::Tensor* enough) {
  const int64_t m = queries.size(0), n = labels.rows.size();
  const ErrorModel model(labels.rows.width(), false, queries.device());
  const RowBounds bounds = row_bounds(queries, queries, "query", 0);
  BlockBound largest;
  at::Tensor scores, chosen;
  for (int64_t first = 0, b = 0; first < n; first += labels.block_rows, ++b) {
    const int64_t columns = std::min(labels.block_rows, n - first);
    const at::Tensor tile = at::mm(queries, labels.rows.wide(first, columns).t());
    auto [tile_scores, tile_labels] = at::topk(tile, std::min(width, columns), 1, true, false);
    tile_labels = tile_labels + first;
    if (scores.defined()) {
      tile_scores = at::cat({scores, tile_scores}, 1);
      tile_labels = at::cat({chosen, tile_labels}, 1);
      const auto [kept, order] = at::topk(tile_scores, std::min(width, tile_scores.size(1)), 1, true, false);
      tile_scores = kept;
      tile_labels = tile_labels.gather(1, order);
    }
    scores = tile_scores;
    chosen = tile_labels;
    largest.norm = std::max(largest.norm, labels.norms[static_cast<size_t>(b)]);
  }
  if (width >= n) {
    *enough = at::ones({m}, queries.options().dtype(at::kBool));
  } else {
    std::vector<float> errors(static_cast<size_t>(m));
    for (size_t i = 0; i < errors.size(); ++i) errors[i] = model.absolute(bounds.norm[i], 0, largest);
    const at::Tensor error = at::tensor(errors, at::kFloat).to(queries.device(), at::kDouble);
    const at::Tensor sorted = std::get<0>(at::sort(scores, 1, true)).to(at::kDouble);
    const at::Tensor kth = sorted.select(1, k - 1), last = sorted.select(1, width - 1);
    // Absolute errors of both scores, and their rounding to float32.
    const at::Tensor margin = 2 * error + (kth.abs() + last.abs()) * model.relative();
    *enough = last < kth - margin;
  }
  return best_of(chosen + labels.first_id, rescore(labels.rows, queries, chosen), k);
}

}  // namespace

at::Tensor canonical_dot_aten(const at::Tensor& a, const at::Tensor& b) {
  const int64_t d = a.size(-1);
  at::Tensor lanes;
  for (int64_t i = 0; i < d; i += kDotLanes) {
    const int64_t width = std::min(kDotLanes, d - i);
    at::Tensor product = a.narrow(-1, i, width).to(at::kDouble) * b.narrow(-1, i, width).to(at::kDouble);
    if (width < kDotLanes) product = at::constant_pad_nd(product, {0, kDotLanes - width});
    // The sum starts from +0 as on the CPU.
    lanes = lanes.defined() ? lanes + product : product + 0.0;
  }
  if (!lanes.defined()) return at::zeros(a.sizes().slice(0, static_cast<size_t>(a.dim() - 1)), a.options());
  for (int64_t half = kDotLanes / 2; half > 0; half /= 2) {
    lanes = lanes.narrow(-1, 0, half) + lanes.narrow(-1, half, half);
  }
  return lanes.squeeze(-1).to(at::kFloat) + 0.0;
}

TopK search_with_aten(const LabelRows& labels, const at::Tensor& queries, int64_t k, int64_t block_queries,
                      bool show_progress) {
  const int64_t m = queries.size(0), n = labels.rows.size();
  const auto device = queries.options();
  TopK result{at::full({m, k}, -1, device.dtype(at::kLong)), at::full({m, k}, -kInfinity, device)};
  if (m == 0 || n == 0) return result;
  row_bounds(queries, queries, "query", 0);  // refuses what is not finite, by its row
  const int64_t found = std::min(k, n);
  // Candidates of a block stay within the memory that a rescoring step takes.
  const int64_t block =
      std::clamp<int64_t>(block_queries, 1, std::max<int64_t>(1, kRescoreBytes / (24 * (k + kExtra))));
  Progress progress("search", "queries", m, show_progress);
  for (int64_t begin = 0; begin < m; begin += block) {
    const int64_t size = std::min(block, m - begin);
    at::Tensor pending = at::arange(begin, begin + size, device.dtype(at::kLong));
    int64_t width = std::min(n, found + kExtra);
    while (pending.numel() > 0) {
      at::Tensor enough;
      const TopK best = search_block(labels, queries.index_select(0, pending), found, width, &enough);
      const at::Tensor done = enough.nonzero().squeeze(1), rows = pending.index_select(0, done);
      result.ids.narrow(1, 0, found).index_copy_(0, rows, best.ids.index_select(0, done));
      result.scores.narrow(1, 0, found).index_copy_(0, rows, best.scores.index_select(0, done));
      pending = pending.index_select(0, enough.logical_not().nonzero().squeeze(1));
      width = std::min(n, 4 * width);
    }
    progress.advance(size);
  }
  return result;
}

}  // namespace vixen
