// Ranked lists of labels, and how two of them become one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vixen {

/// Lists in the total order: score descending, then id ascending.
struct TopK {
  at::Tensor ids;     // int64 [n, k]; -1 where there are fewer than k labels
  at::Tensor scores;  // float32 [n, k]; -inf there
};

/// [n, k] on the CPU without any label: -1 and -infinity.
TopK empty_top_k(int64_t n, int64_t k);

/// Two lists of the same queries -> their k best in the total order. Pure; any k.
TopK merge_top_k(const TopK& a, const TopK& b, int64_t k);

}  // namespace vixen
