// The candidates of one query, in the hands of one block: how they become fewer without losing one that may be among
// the k best. What stays keeps its order, so that the buffers do not depend on the order of threads.
#pragma once

#include "search/cuda/block.cuh"
#include "search/cuda/canonical.cuh"

namespace vixen {

/// Integers in the order of floats (-0 below +0), and back.
__device__ inline uint32_t order_of(float value) {
  const uint32_t bits = bits_of(value);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float float_at(uint32_t order) {
  return float_of(order >> 31 ? order & 0x7fffffffu : ~order);
}
/// Integers in the total order: score descending, then label ascending.
__device__ inline uint64_t order_of(float score, int32_t label) {
  return static_cast<uint64_t>(order_of(score)) << 32 | (0xffffffffu - static_cast<uint32_t>(label));
}

/// A query's candidates; the same on all threads.
struct Own {
  int32_t* label;
  float* lower;
  float* upper;
  int count, exact;
  float threshold;
};

__device__ inline Own candidates_of(const CandidateArgs& a, int64_t query) {
  const int64_t first = query * a.capacity;
  return {a.label + first,
          a.lower + first,
          a.upper + first,
          global_load(a.count + query),
          global_load(a.exact + query),
          global_load(a.threshold + query)};
}

/// What may have changed goes back; another thread may have read the old values until the block has met.
__device__ inline void put_back(const CandidateArgs& a, int64_t query, const Own& own) {
  if (threadIdx.x != 0) return;
  global_store(a.count + query, own.count);
  global_store(a.exact + query, own.exact);
  global_store(a.threshold + query, own.threshold);
}

/// Keeps the candidates for which stays(label, lower, upper) holds.
template <class Stays>
__device__ void keep(Own& own, Stays stays) {
  constexpr int kHalf = 16;  // two counts in one number
  int kept = 0, exact = 0;
  for (int base = 0; base < own.count; base += kRowThreads) {
    const int i = base + static_cast<int>(threadIdx.x);
    int32_t label = 0;
    float lower = 0, upper = 0;
    bool one_stays = false;
    if (i < own.count) {
      label = global_load(own.label + i);
      lower = global_load(own.lower + i);
      upper = global_load(own.upper + i);
      one_stays = stays(label, lower, upper);
    }
    // All have read their own before any writes, never behind the places that are still to be read.
    const Rank rank = rank_of_thread(one_stays ? (i < own.exact ? 1 << kHalf : 0) + 1 : 0);
    if (one_stays) {
      const int to = kept + (rank.before & ((1 << kHalf) - 1));
      global_store(own.label + to, label);
      global_store(own.lower + to, lower);
      global_store(own.upper + to, upper);
    }
    kept += rank.total & ((1 << kHalf) - 1);
    exact += rank.total >> kHalf;
  }
  __syncthreads();
  own.count = kept;
  own.exact = exact;
}

/// Raises the threshold to the k-th largest lower bound and drops what does not reach it.
__device__ inline void compact_by_bounds(const CandidateArgs& a, Own& own) {
  if (own.count < a.k) return;
  const float kth = float_at(kth_largest<uint32_t>(own.count, static_cast<int>(a.k),
                                                   [&](int i) { return order_of(global_load(own.lower + i)); }));
  if (kth > own.threshold) own.threshold = kth;
  keep(own, [&](int32_t, float, float upper) { return upper >= own.threshold; });
}

/// Gives every candidate its canonical score and keeps the k best in the total order.
template <class T>
__device__ void compact_exactly(const CandidateArgs& a, int64_t query, Own& own) {
  const float* const asked = a.queries + query * a.rows.width;
  for (int base = own.exact; base < own.count; base += kRowThreads / kScoreLanes) {
    const int i = base + static_cast<int>(threadIdx.x) / kScoreLanes;
    const bool any = i < own.count;
    // Who has no candidate stays for the sum of the warp.
    const int64_t row = any ? global_load(own.label + i) - a.rows.first : 0;
    const float score =
        canonical_score(asked, static_cast<const T*>(a.rows.rows) + row * a.rows.width,
                        any && a.rows.divisors ? a.rows.divisors + row : nullptr, any ? a.rows.width : 0);
    if (any && threadIdx.x % kScoreLanes == 0) {
      global_store(own.lower + i, score);
      global_store(own.upper + i, score);
    }
  }
  __syncthreads();
  own.exact = own.count;
  if (own.count < a.k) return;
  const uint64_t kth = kth_largest<uint64_t>(own.count, static_cast<int>(a.k), [&](int i) {
    return order_of(global_load(own.lower + i), global_load(own.label + i));
  });
  const float score = float_at(static_cast<uint32_t>(kth >> 32));
  if (score > own.threshold) own.threshold = score;
  keep(own, [&](int32_t label, float lower, float) { return order_of(lower, label) >= kth; });
}

/// run(T{}) for the type of the rows.
template <class Run>
int with_rows(RowStorage storage, Run run) {
  switch (storage) {
    case RowStorage::kFloat16:
      return run(Float16{});
    case RowStorage::kBfloat16:
      return run(Bfloat16{});
    default:
      return run(float{});
  }
}

}  // namespace vixen
