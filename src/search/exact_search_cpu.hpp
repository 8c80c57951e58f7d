// The exact search on a CPU: candidates block by block from a prefilter, canonical rescoring.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "search/label_rows.hpp"
#include "search/prefilter.hpp"
#include "search/top_k.hpp"

namespace vixen {

/// prepared: those labels, for a prefilter. queries: float32 [m, D], contiguous, CPU. Local; uses ATen's threads.
TopK search_on_cpu(const LabelRows& labels, const PreparedLabels& prepared, const at::Tensor& queries, int64_t k,
                   int64_t block_queries, bool show_progress);

}  // namespace vixen
