#include "search/exact_search_cpu.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "search/candidates.hpp"

namespace vixen {
namespace {

constexpr int64_t kCandidateBytes = int64_t{256} << 20;  // for the candidates of a query block
constexpr int64_t kScanGrain = 16;                       // queries handed to a thread at a time

/// Queries of a block, fewer when k is so large that their candidates would take too much memory.
int64_t fitting_queries(int64_t asked, int64_t k) {
  const int64_t fitting = std::max<int64_t>(1, kCandidateBytes / Candidates::bytes(k));
  return std::clamp<int64_t>(asked, 1, fitting);
}

}  // namespace

TopK search_on_cpu(const LabelRows& labels, const at::Tensor& queries, int64_t k, int64_t block_queries,
                   bool show_progress) {
  const int64_t m = queries.size(0), n = labels.rows.size(0), d = labels.rows.size(1);
  const bool bfloat16 = labels.prefilter.scalar_type() == at::kBFloat16;
  TopK result{at::empty({m, k}, at::kLong), at::empty({m, k}, at::kFloat)};
  const int64_t query_rows = std::min(fitting_queries(block_queries, k), std::max<int64_t>(m, 1));
  const ErrorModel model(d, bfloat16, at::kCPU);
  const ExactRows exact{labels.rows.const_data_ptr<float>(), d};
  // One tile of scores, used again and again, so that it stays in the cache.
  at::Tensor tile_buffer =
      at::empty({query_rows * std::min(labels.block_rows, std::max<int64_t>(n, 1))}, labels.prefilter.options());
  std::vector<Candidates> candidates(static_cast<size_t>(query_rows), Candidates(k));
  Progress progress("search", "queries", m, show_progress);

  for (int64_t first_query = 0; first_query < m; first_query += query_rows) {
    const int64_t rows = std::min(query_rows, m - first_query);
    const at::Tensor block = queries.narrow(0, first_query, rows);
    const at::Tensor rounded = bfloat16 ? block.to(at::kBFloat16) : block;
    const RowBounds bounds = row_bounds(block, rounded, "query", first_query);
    const float* block_data = block.const_data_ptr<float>();
    for (int64_t i = 0; i < rows; ++i) candidates[static_cast<size_t>(i)].reset();

    for (int64_t first_label = 0, b = 0; first_label < n; first_label += labels.block_rows, ++b) {
      const int64_t columns = std::min(labels.block_rows, n - first_label);
      at::Tensor tile = tile_buffer.narrow(0, 0, rows * columns).view({rows, columns});
      at::mm_out(tile, rounded, labels.prefilter.narrow(0, first_label, columns).t());
      const void* scores = tile.const_data_ptr();
      const BlockBound& label_bound = labels.bounds[static_cast<size_t>(b)];
      at::parallel_for(0, rows, kScanGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const auto row = static_cast<size_t>(i);
          const float absolute = model.absolute(bounds.norm[row], bounds.residual[row], label_bound);
          const float* query = block_data + i * d;
          if (bfloat16) {
            candidates[row].scan(static_cast<const uint16_t*>(scores) + i * columns, columns, first_label, absolute,
                                 model.relative(), query, exact);
          } else {
            candidates[row].scan(static_cast<const float*>(scores) + i * columns, columns, first_label, absolute,
                                 model.relative(), query, exact);
          }
        }
      });
    }

    auto* ids = result.ids.mutable_data_ptr<int64_t>() + first_query * k;
    auto* scores = result.scores.mutable_data_ptr<float>() + first_query * k;
    at::parallel_for(0, rows, kScanGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        candidates[static_cast<size_t>(i)].finish(block_data + i * d, exact, labels.first_id, ids + i * k,
                                                  scores + i * k);
      }
    });
    progress.advance(rows);
  }
  return result;
}

}  // namespace vixen
