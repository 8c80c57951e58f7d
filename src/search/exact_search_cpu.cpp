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
constexpr int64_t kFinishGrain = 16;                     // queries handed to a thread at a time

/// Queries of a block, fewer when k is so large that their candidates would take too much memory.
int64_t fitting_queries(int64_t asked, int64_t k) {
  const int64_t fitting = std::max<int64_t>(1, kCandidateBytes / Candidates::bytes(k));
  return std::clamp<int64_t>(asked, 1, fitting);
}

}  // namespace

TopK search_on_cpu(const LabelRows& labels, const PreparedLabels& prepared, const at::Tensor& queries, int64_t k,
                   int64_t block_queries, bool show_progress) {
  const int64_t m = queries.size(0), d = labels.rows.width();
  TopK result{at::empty({m, k}, at::kLong), at::empty({m, k}, at::kFloat)};
  const int64_t query_rows = std::min(fitting_queries(block_queries, k), std::max<int64_t>(m, 1));
  const RowReader reader(labels.rows);
  const auto scan = prepared.begin(labels, query_rows);
  std::vector<Candidates> candidates(static_cast<size_t>(query_rows), Candidates(k));
  Progress progress("search", "queries", m, show_progress);

  for (int64_t first_query = 0; first_query < m; first_query += query_rows) {
    const int64_t rows = std::min(query_rows, m - first_query);
    const at::Tensor block = queries.narrow(0, first_query, rows);
    const std::span<Candidates> found(candidates.data(), static_cast<size_t>(rows));
    for (Candidates& one : found) one.reset();
    scan->take_queries(block, first_query);
    const auto blocks = static_cast<int64_t>(labels.norms.size());
    for (int64_t b = 0; b < blocks; ++b) scan->scan(b, found);

    const float* block_data = block.const_data_ptr<float>();
    auto* ids = result.ids.mutable_data_ptr<int64_t>() + first_query * k;
    auto* scores = result.scores.mutable_data_ptr<float>() + first_query * k;
    at::parallel_for(0, rows, kFinishGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        found[static_cast<size_t>(i)].finish(block_data + i * d, reader, labels.first_id, ids + i * k, scores + i * k);
      }
    });
    progress.advance(rows);
  }
  return result;
}

}  // namespace vixen
