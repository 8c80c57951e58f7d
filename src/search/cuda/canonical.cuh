// The canonical score by 16 neighbouring lanes: product i goes to lane i % 16, which adds its own in order; then the
// lanes are added as a tree (j + 8, + 4, + 2, + 1). The order of ScanKernels::dot (search/scan_kernels.hpp).
#pragma once

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vectors.cuh"
#include "search/device_arguments.hpp"

namespace vixen {

constexpr int kScoreLanes = 16;

/// query . (row / divisor); divisor null: the row as it is. The whole warp must come; the first of the 16 lanes gets
/// it. Products of floats are exact in float64, so that fused and separate multiply-adds agree.
template <class T>
__device__ float canonical_score(const float* query, const T* row, const double* divisor, int64_t width) {
  const int lane = static_cast<int>(threadIdx.x) % kScoreLanes;
  const double by = divisor ? global_load(divisor) : 1;
  double sum = 0;
#pragma unroll 4
  for (int64_t i = lane; i < width; i += kScoreLanes) {
    float value = as_float(global_load(row + i));
    if (divisor) value = static_cast<float>(static_cast<double>(value) / by);
    sum += static_cast<double>(global_load(query + i)) * static_cast<double>(value);
  }
#pragma unroll
  for (int half = kScoreLanes / 2; half > 0; half /= 2) sum += __shfl_down_sync(kWholeWarp, sum, half);
  return static_cast<float>(sum) + 0.0f;  // -0 becomes +0: equal scores are equal in the order
}

}  // namespace vixen
