// Counts over a block of kRowThreads threads: totals, ranks, and the k-th largest of many keys. All threads must come.
#pragma once

#include "kernels/cuda/reduce.cuh"

namespace vixen {

constexpr int kRowWarps = kRowThreads / kWarp;

__device__ inline int own_lane() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ inline int own_warp() {
  return static_cast<int>(threadIdx.x) / kWarp;
}

/// The sum over the lanes up to this one.
template <class Integer>
__device__ Integer sum_up_to_lane(Integer value) {
#pragma unroll
  for (int apart = 1; apart < kWarp; apart *= 2) {
    const Integer other = __shfl_sync(kWholeWarp, value, own_lane() >= apart ? own_lane() - apart : own_lane());
    if (own_lane() >= apart) value += other;
  }
  return value;
}

struct Rank {
  int before, total;  // over the warps before, or the threads before; over the block
};

/// Of a number that each warp has (the same on all its lanes): over the warps before this one.
__device__ inline Rank rank_of_warp(int value) {
  VIXEN_SHARED(int, totals, kRowWarps);
  if (own_lane() == 0) totals[own_warp()] = value;
  __syncthreads();
  Rank rank = {0, 0};
#pragma unroll
  for (int w = 0; w < kRowWarps; ++w) {
    if (w < own_warp()) rank.before += totals[w];
    rank.total += totals[w];
  }
  __syncthreads();  // the next call writes the totals anew
  return rank;
}

/// Of a number that each thread has: over the threads before this one.
__device__ inline Rank rank_of_thread(int value) {
  const int up_to = sum_up_to_lane(value);
  Rank rank = rank_of_warp(__shfl_sync(kWholeWarp, up_to, kWarp - 1));
  rank.before += up_to - value;
  return rank;
}

__device__ inline int block_total(int value) {
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(kWholeWarp, value, apart);
  return rank_of_warp(value).total;
}

/// The bits that any thread's value has.
template <class Integer>
__device__ Integer block_or(Integer value) {
  VIXEN_SHARED(Integer, values, kRowWarps);
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) value |= __shfl_xor_sync(kWholeWarp, value, apart);
  if (own_lane() == 0) values[own_warp()] = value;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kRowWarps; ++w) value |= values[w];
  __syncthreads();  // the next call writes the values anew
  return value;
}

/// The k-th largest of key_of(0) .. key_of(n - 1), n >= k: the largest number that k of them reach, bit by bit. Bits
/// that all keys share need no count.
template <class Key, class KeyOf>
__device__ Key kth_largest(int n, int k, KeyOf key_of) {
  Key any = 0, lacking = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) {
    const Key key = key_of(i);
    any |= key;
    lacking |= ~key;
  }
  any = block_or(any);
  lacking = block_or(lacking);
  Key kth = ~lacking;
  for (int bit = 8 * static_cast<int>(sizeof(Key)) - 1; bit >= 0; --bit) {
    if (!((any & lacking) >> bit & 1)) continue;
    const Key asked = kth | (Key{1} << bit);
    int reach = 0;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) reach += key_of(i) >= asked ? 1 : 0;
    if (block_total(reach) >= k) kth = asked;
  }
  return kth;
}

}  // namespace vixen
