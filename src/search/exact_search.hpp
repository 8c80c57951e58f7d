// Exact top-k inner product search: candidates from a blocked matrix product and a threshold, final scores from one
// canonical dot product, total order (score descending, then id ascending). The same embeddings give the same ids and
// the same scores to the bit for every block size, thread count, prefilter and world size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

struct TopK {
  at::Tensor ids;     // int64 [n, k]; -1 where there are fewer than k labels
  at::Tensor scores;  // float32 [n, k]; -inf there
};

struct SearchOptions {
  int64_t k = 100;
  std::string prefilter = "auto";  // "fp32", "bf16", or the faster of the two for this machine
  int64_t block_queries = 1024;
  int64_t block_labels = 8192;
  bool show_progress = false;
};

/// One rank's rows of the label side, prepared once (bf16 copy and error bounds for the prefilter).
class LabelIndex {
 public:
  /// rows [n, D] float32 or float16 (kept, not copied when float32); ids of rows are first_id, first_id + 1, ...
  LabelIndex(at::Tensor rows, int64_t first_id, const SearchOptions& options);
  ~LabelIndex();
  LabelIndex(LabelIndex&&) noexcept;

  int64_t rows() const;
  /// queries [m, D] on the labels' device; k >= 1. Labels and queries must be finite, and of the same width: UserError.
  /// Local.
  TopK search(const at::Tensor& queries, int64_t k) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The canonical score: products in float64, summed in a fixed order, rounded to float32. a [m, D], b [m, D] -> [m].
at::Tensor canonical_dot(const at::Tensor& a, const at::Tensor& b);

/// Two lists of the same queries -> their k best in the total order. Pure; any k.
TopK merge_top_k(const TopK& a, const TopK& b, int64_t k);

/// Sharded search. `index` holds this rank's labels; `queries` [m_r, D] are this rank's queries (m_r may differ). Every
/// rank gets the global top k of its own queries. Queries travel in blocks; memory is bounded by block sizes.
/// Collective.
TopK sharded_search(const LabelIndex& index, const at::Tensor& queries, const SearchOptions& options,
                    Communicator& comm);

/// The same over any search of this rank's labels: (queries [m, D] float32, k) -> ranked lists [m, k]. Collective.
using LocalSearch = std::function<TopK(const at::Tensor& queries, int64_t k)>;
TopK sharded_search(const LocalSearch& local_search, const at::Tensor& queries, const SearchOptions& options,
                    Communicator& comm);

}  // namespace vixen
