// The candidates of a block of queries on a device: every label that can still be among the k best of a query.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "search/scaled_rows.hpp"
#include "search/top_k.hpp"

namespace vixen {

/// The tensors behind CandidateArgs (search/device_arguments.hpp), which says what they hold.
struct DeviceCandidates {
  /// Without values; k <= capacity.
  DeviceCandidates(int64_t queries, int64_t k_best, int64_t capacity, const at::TensorOptions& float_options);

  int64_t size() const { return count.size(0); }
  int64_t capacity() const { return label.size(1); }
  /// Those of the first m queries, over the same memory.
  DeviceCandidates first(int64_t m) const;

  /// Bytes of a query.
  static int64_t bytes(int64_t capacity) { return capacity * 12 + 12; }

  int64_t k;
  at::Tensor label;         // int32 [m, capacity]
  at::Tensor lower, upper;  // float32 [m, capacity]
  at::Tensor count, exact;  // int32 [m]
  at::Tensor threshold;     // float32 [m]

 private:
  DeviceCandidates() = default;
};

/// Rows of the shard that lie on the device: those of labels first .. first + values.size(0) - 1.
struct DevicePart {
  int64_t first;
  at::Tensor values;    // float32, float16 or bfloat16 [r, D]
  at::Tensor divisors;  // float64 [r] or undefined
  at::Tensor rounded;   // bfloat16 [r, D]: what products read
};

/// Every query begins with its list so far, in the total order, of exact scores: lists.ids int64 [m, k], rows of the
/// shard, of which the first `known` are there. Local; the host does not wait.
void begin_candidates(DeviceCandidates& candidates, const TopK& lists, int64_t known);

/// The first `n` candidates of each query, all of them exact, in the total order; ids are rows of the shard.
TopK in_total_order(const DeviceCandidates& candidates, int64_t n);

/// Scores and labels (int32) as integers in the total order, the best the largest: int64.
at::Tensor order_keys(const at::Tensor& scores, const at::Tensor& labels);
/// The scores of keys.
at::Tensor scores_of_keys(const at::Tensor& keys);

}  // namespace vixen
