// The exact search in ATen operations alone: for tensors on any device, with the same answer to the bit as on a CPU.
#pragma once

#include "search/label_rows.hpp"
#include "search/top_k.hpp"

namespace vixen {

/// queries: float32 [m, D] on the labels' device. Local. The product is float32, of labels that are widened block by
/// block.
TopK search_with_aten(const LabelRows& labels, const at::Tensor& queries, int64_t k, int64_t block_queries,
                      bool show_progress);

/// Canonical dot products in the order of ScanKernels::dot. a, b: float32 [..., D], broadcast; -> float32 [...].
at::Tensor canonical_dot_aten(const at::Tensor& a, const at::Tensor& b);

}  // namespace vixen
