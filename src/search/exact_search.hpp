// Exact top-k inner product search: candidates from blocks of products and a threshold, final scores from one
// canonical dot product, total order (score descending, then id ascending). The same embeddings give the same ids and
// the same scores to the bit for every block size, thread count, prefilter and world size.
#pragma once

#include <memory>

#include "search/index.hpp"
#include "search/label_rows.hpp"
#include "search/prefilter.hpp"

namespace vixen {

/// One rank's rows of the label side, prepared once (bounds for the prefilter; no copy of rows).
class ExactIndex : public Index {
 public:
  /// rows [n, D], on any device; ids of rows are first_id, first_id + 1, ... Labels must be finite: UserError.
  ExactIndex(const ScaledRows& rows, int64_t first_id, const IndexConfig& config);

  int64_t bytes() const override;
  std::string description() const override;

 private:
  TopK search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const override;

  LabelRows labels_;
  std::unique_ptr<PreparedLabels> prepared_;  // null on a GPU, which multiplies in float32
  int64_t block_queries_;
};

/// The canonical score: products in float64, summed in a fixed order, rounded to float32. a [m, D], b [m, D] -> [m].
at::Tensor canonical_dot(const at::Tensor& a, const at::Tensor& b);

}  // namespace vixen
