// The exact search on a device: tiles of bfloat16 products, a threshold filter, canonical scores of what is left.
#pragma once

#include "config/config.hpp"
#include "search/device_labels.hpp"
#include "search/device_sizes.hpp"
#include "search/top_k.hpp"

namespace vixen {

/// queries: float32 [m, D] on the labels' device, contiguous; k may be more than there are labels. The lists of the
/// CPU's search, ids and scores to the bit. The host waits for the norms of 4,096 queries at a time, before the first
/// product, and for nothing after it. Local.
TopK search_on_device(const DeviceLabels& labels, const at::Tensor& queries, int64_t k, const IndexConfig& config,
                      bool show_progress, int64_t queries_at_a_time = kQueriesAtATime);

}  // namespace vixen
