// Sums over the lanes of a warp and the threads of a block, in an order that depends on their number alone.
#pragma once

#include "kernels/cuda/runtime.cuh"

namespace vixen {

constexpr int kWarp = 32;
constexpr uint32_t kWholeWarp = 0xffffffffu;
/// Most threads of a block that works on one row.
constexpr int kRowThreads = 256;

/// The sum over `lanes` neighbours, a power of two; all of them get it. The whole warp must come.
__device__ inline float sum_of_lanes(float value, int lanes) {
  for (int apart = lanes / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(kWholeWarp, value, apart);
  return value;
}

/// values[k] becomes its sum over the block, for all its threads, which must all come: whole warps, kRowThreads at
/// most.
template <int K>
__device__ void block_sums(float (&values)[K]) {
  VIXEN_SHARED(float, sums, K* kRowThreads / kWarp);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    values[k] = sum_of_lanes(values[k], kWarp);
    if (threadIdx.x % kWarp == 0) sums[warp * K + k] = values[k];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < K; ++k) {
    values[k] = 0;
    for (int w = 0; w < warps; ++w) values[k] += sums[w * K + k];
  }
  __syncthreads();  // the next call writes the sums anew
}

__device__ inline float block_sum(float value) {
  float values[1] = {value};
  block_sums(values);
  return values[0];
}

/// Threads for a row of `vectors`: whole warps, no more than have something to do, kRowThreads at most.
inline int row_threads(int64_t vectors) {
  const int64_t warps = (vectors + kWarp - 1) / kWarp;
  return warps * kWarp < kRowThreads ? static_cast<int>(warps < 1 ? 1 : warps) * kWarp : kRowThreads;
}

}  // namespace vixen
