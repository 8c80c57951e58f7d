// A scan for the first fault among many values, with all threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace vixen {

/// The smallest i in [0, n) with bad(i), or n. bad must be cheap and free of side effects: blocks are tested without
/// branches, only a block that has a fault is looked at closely.
template <typename Bad>
int64_t first_where(int64_t n, Bad bad) {
  constexpr int64_t kGrain = 1 << 20, kBlock = 4096;  // below a grain, waking threads costs more
  std::atomic<int64_t> first{n};
  at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block += kBlock) {
      if (block >= first.load(std::memory_order_relaxed)) return;
      const int64_t block_end = std::min(end, block + kBlock);
      unsigned any = 0;
#pragma omp simd reduction(| : any)
      for (int64_t i = block; i < block_end; ++i) any |= static_cast<unsigned>(bad(i));
      if (!any) continue;
      int64_t found = block;
      while (!bad(found)) ++found;
      int64_t seen = first.load();
      while (found < seen && !first.compare_exchange_weak(seen, found)) {
      }
      return;
    }
  });
  return first.load();
}

}  // namespace vixen
