// The exact search on a CPU: a blocked matrix product, a vectorised threshold scan, canonical rescoring.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "config/config.hpp"
#include "search/error_bound.hpp"
#include "search/top_k.hpp"

namespace vixen {

/// The label side as the searches read it.
struct LabelRows {
  at::Tensor rows;       // float32 [n, D], contiguous
  at::Tensor prefilter;  // what the product reads: `rows` itself, or its bfloat16 copy [n, D]
  int64_t first_id = 0;
  int64_t block_rows = 0;          // labels of a block
  std::vector<BlockBound> bounds;  // [blocks]
};

/// queries: float32 [m, D], contiguous, CPU. Local; uses ATen's threads.
TopK search_on_cpu(const LabelRows& labels, const at::Tensor& queries, int64_t k, int64_t block_queries,
                   bool show_progress);

}  // namespace vixen
