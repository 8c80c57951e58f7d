// Balanced 2-means on CUDA: unit rows, scores of rows by the centroids of their sets, sums of rows that change sides.
// Rows and differences of centroids lie on a grid on which float64 is exact (cluster/two_means_arithmetic.hpp), so that
// lanes and pieces may add in any order and all machines have the same bits. The norm of a row, which is not exact, is
// added up by halving, as the reference does.
//   m rows of a list, n rows of a table, D columns of N a vector, P = 2^ceil(log2 D); s bytes a number of what becomes
//   unit rows
//   unit_rows    bytes 2 s n D + 4 n D; the second reading comes from the cache                 FLOPs 4 n D
//   row_scores   bytes 4 m D + 20 m; 8 m D of differences, which neighbours share, from the cache    FLOPs 2 m D
//   row_sums     bytes 4 m D + 8 pieces D, 16 m D / N of rows' numbers and signs from the cache      FLOPs 2 m D
//   FLOPs of float64. Shared memory: unit_rows 8 P.
#include "cluster/cuda/launchers.hpp"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vectors.cuh"

namespace vixen {
namespace {

/// The nearest multiple of 2^-24, as round_to_grid.
__device__ inline double on_grid(double value) {
  constexpr double kShift = 402653184.0;  // 1.5 x 2^28: one unit in its last place is 2^-24
  return (value + kShift) - kShift;
}

int64_t power_of_two_above(int64_t width) {
  int64_t power = 1;
  while (power < width) power *= 2;
  return power;
}

template <class T>
__global__ void unit_rows_kernel(UnitRowsArgs a, int64_t padded) {
  VIXEN_DYNAMIC_SHARED(memory);
  double* const squares = reinterpret_cast<double*>(memory);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * a.width;
  const T* const row = static_cast<const T*>(a.rows) + first;
  for (int64_t d = threadIdx.x; d < padded; d += blockDim.x) {
    const double value = d < a.width ? static_cast<double>(as_float(global_load(row + d))) : 0;
    squares[d] = value * value;
  }
  __syncthreads();
  for (int64_t half = padded / 2; half >= 1; half /= 2) {
    for (int64_t d = threadIdx.x; d < half; d += blockDim.x) squares[d] += squares[d + half];
    __syncthreads();
  }
  const double norm = sqrt(squares[0]);
  for (int64_t d = threadIdx.x; d < a.width; d += blockDim.x) {
    const double value = static_cast<double>(as_float(global_load(row + d)));
    global_store(a.unit + first + d, norm == 0 ? 0.0f : static_cast<float>(on_grid(value / norm)));
  }
}

template <int N>
__global__ void row_scores_kernel(RowScoresArgs a, int64_t count) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * (kElementThreads / kWarp) + threadIdx.x / kWarp;
  // Who has no row stays for the sum of the warp.
  const int64_t at = item < count ? item : count - 1;
  const float* const row = a.x + global_load(a.rows + at) * a.width;
  const double* const difference = a.differences + global_load(a.slots + at) * a.width;
  double sum = 0;
  if (item < count) {
#pragma unroll 2
    for (int64_t d = static_cast<int64_t>(threadIdx.x % kWarp) * N; d < a.width; d += kWarp * N) {
      const Floats<N> x = load<N>(row + d);
#pragma unroll
      for (int e = 0; e < N; ++e) sum += static_cast<double>(x.at[e]) * global_load(difference + d + e);
    }
  }
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) sum += __shfl_down_sync(kWholeWarp, sum, apart);
  if (item < count && threadIdx.x % kWarp == 0) global_store(a.scores + item, static_cast<float>(sum));
}

template <int N>
__global__ void row_sums_kernel(RowSumsArgs a, int64_t pieces) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= pieces * vectors) return;
  const auto [piece, vector] = place_of(index, vectors);
  const int64_t end = global_load(a.starts + piece + 1);
  double sums[N] = {};
#pragma unroll 4
  for (int64_t i = global_load(a.starts + piece); i < end; ++i) {
    const double sign = global_load(a.signs + i);
    const Floats<N> x = load<N>(a.x + global_load(a.rows + i) * a.width + vector * N);
#pragma unroll
    for (int e = 0; e < N; ++e) sums[e] += sign * static_cast<double>(x.at[e]);
  }
#pragma unroll
  for (int e = 0; e < N; ++e) global_store(a.sums + piece * a.width + vector * N + e, sums[e]);
}

}  // namespace

int cuda::unit_rows(const UnitRowsArgs& a, int64_t rows, CUstream_st* stream) {
  const int64_t padded = power_of_two_above(a.width);
  const size_t shared = sizeof(double) * static_cast<size_t>(padded);
  return a.half ? launch(unit_rows_kernel<Float16>, rows, row_threads(padded), shared, stream, a, padded)
                : launch(unit_rows_kernel<float>, rows, row_threads(padded), shared, stream, a, padded);
}

int cuda::row_scores(const RowScoresArgs& a, int64_t count, CUstream_st* stream) {
  constexpr int64_t kRows = kElementThreads / kWarp;  // of a block
  return with_form(Storage::kFloat32, a.width, aligned({a.x}), [&](auto form) {
    return launch(row_scores_kernel<decltype(form)::kLanes>, (count + kRows - 1) / kRows, kElementThreads, 0, stream, a,
                  count);
  });
}

int cuda::row_sums(const RowSumsArgs& a, int64_t pieces, CUstream_st* stream) {
  return with_form(Storage::kFloat32, a.width, aligned({a.x}), [&](auto form) {
    constexpr int kLanes = decltype(form)::kLanes;
    return launch(row_sums_kernel<kLanes>, element_blocks(pieces * (a.width / kLanes)), kElementThreads, 0, stream, a,
                  pieces);
  });
}

}  // namespace vixen
