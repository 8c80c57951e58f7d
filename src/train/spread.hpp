// How far apart the embeddings of a batch are: what shows a collapse long before an evaluation does.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

namespace vixen {

/// Of unit rows [n, D], n >= 2; float32 scalars on their device, no host sync.
struct Spread {
  at::Tensor mean_cosine;  // over all pairs of two rows
  at::Tensor
      effective_rank;  // participation ratio of the second moments: (tr C)^2 / tr C^2, C = x^T x / n; 1 to min(n, D)
};
Spread spread_of(const at::Tensor& rows);

/// Watches the mean cosine of a run's batches, one look a log interval. A pretrained decoder may begin with all
/// embeddings within a few degrees: a collapse is what comes nearer to one point than the run began, not what is near.
class CollapseWatch {
 public:
  /// The mean cosines of queries and labels at `step`. What to warn of, once for a run: both sides have come together.
  std::optional<std::string> look(double queries, double labels, int64_t step);

 private:
  double first_ = -1;  // widest 1 - mean cosine so far
  int together_ = 0;   // looks in a row
  bool warned_ = false;
};

}  // namespace vixen
