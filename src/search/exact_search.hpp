// Exact top-k inner product search: candidates from a blocked matrix product and a threshold, final scores from one
// canonical dot product, total order (score descending, then id ascending). The same embeddings give the same ids and
// the same scores to the bit for every block size, thread count, prefilter and world size.
#pragma once

#include "search/exact_search_cpu.hpp"
#include "search/index.hpp"

namespace vixen {

/// One rank's rows of the label side, prepared once (bf16 copy and error bounds for the prefilter).
class ExactIndex : public Index {
 public:
  /// rows [n, D] float32 or float16 (kept, not copied when float32), on any device; ids of rows are first_id,
  /// first_id + 1, ... Labels must be finite: UserError.
  ExactIndex(const at::Tensor& rows, int64_t first_id, const IndexConfig& config);

  int64_t bytes() const override;
  std::string description() const override;

 private:
  TopK search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const override;

  LabelRows labels_;
  int64_t block_queries_;
};

/// The canonical score: products in float64, summed in a fixed order, rounded to float32. a [m, D], b [m, D] -> [m].
at::Tensor canonical_dot(const at::Tensor& a, const at::Tensor& b);

}  // namespace vixen
