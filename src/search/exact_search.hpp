// Exact top-k inner product search: candidates from blocks of products and a threshold, final scores from one
// canonical dot product, total order (score descending, then id ascending). The same embeddings give the same ids and
// the same scores to the bit for every device, block size, thread count, prefilter and world size.
#pragma once

#include <memory>
#include <optional>

#include "search/device_labels.hpp"
#include "search/index.hpp"
#include "search/label_rows.hpp"
#include "search/prefilter.hpp"

namespace vixen {

/// One rank's rows of the label side, prepared once: on a CPU bounds for the prefilter and no copy of rows, elsewhere
/// what DeviceLabels says.
class ExactIndex : public Index {
 public:
  /// rows [n, D], for any device; ids of rows are first_id, first_id + 1, ... Labels must be finite: UserError.
  ExactIndex(const ScaledRows& rows, int64_t first_id, const IndexConfig& config);

  int64_t bytes() const override;
  std::string description() const override;

 private:
  TopK search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const override;

  struct OnCpu {
    LabelRows labels;
    std::unique_ptr<PreparedLabels> prepared;
  };
  std::optional<OnCpu> on_cpu_;
  std::optional<DeviceLabels> on_device_;  // on any other
  IndexConfig config_;
};

/// The canonical score: products in float64, summed in a fixed order, rounded to float32. a [m, D], b [m, D] -> [m].
at::Tensor canonical_dot(const at::Tensor& a, const at::Tensor& b);

}  // namespace vixen
