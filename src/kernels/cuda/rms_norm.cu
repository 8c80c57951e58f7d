// Root-mean-square norm with the residual in front of it on CUDA: one row a block, kept in shared memory between the
// two passes over it; the backward one chunk of rows a block.
//   T rows, D columns, N columns of a vector, P = threads of a block, s bytes a number. Bytes asked for; those of the
//   weight, 4 D a pass, come from the cache.
//   forward    4 s T D with residual (x, residual, sum, y), 2 s T D without, + T (4 D + 4)                FLOPs 5 T D
//   again      2 s T D + T (4 D + 4 P)                                                                    FLOPs 2 T D
//   backward   3 s T D (grad_y, sum, grad_sum), 4 s T D with grad_along, + T (8 D + 4 P) + 4 chunks D     FLOPs 12 T D
//   Shared memory: s D forward; 2 s D, and 4 D with a gradient of the weight, backward.
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vectors.cuh"
#include "kernels/cuda_limits.hpp"

namespace vixen {
namespace {

/// y = weight * (x * rstd), the only way y is made: rms_again meets the forward to the bit.
template <class T, int N>
__device__ void scale(const Floats<N>& x, float rstd, const float* weight, T* y) {
  const Floats<N> w = load<N>(weight);
  Floats<N> out;
#pragma unroll
  for (int e = 0; e < N; ++e) out.at[e] = x.at[e] * rstd * w.at[e];
  store(y, out);
}

template <class T, int N>
__global__ void forward_kernel(RmsForwardArgs a) {
  VIXEN_DYNAMIC_SHARED(shared);
  // Each thread reads what it wrote itself: no barrier.
  auto* const kept = reinterpret_cast<Vector<T, N>*>(shared);
  const int64_t row = blockIdx.x, first = row * a.width;
  const int vectors = static_cast<int>(a.width / N);
  float squares = 0;
  for (int v = static_cast<int>(threadIdx.x); v < vectors; v += static_cast<int>(blockDim.x)) {
    const int64_t at = first + v * N;
    Vector<T, N> values = load_vector<N>(static_cast<const T*>(a.x) + at);
    if (a.residual) {
      Floats<N> sum = widen(values);
      const Floats<N> residual = load<N>(static_cast<const T*>(a.residual) + at);
#pragma unroll
      for (int e = 0; e < N; ++e) sum.at[e] += residual.at[e];
      store(static_cast<T*>(a.sum) + at, sum);
      values = narrow<T>(sum);
    }
    kept[v] = values;
    const Floats<N> stored = widen(values);
#pragma unroll
    for (int e = 0; e < N; ++e) squares += stored.at[e] * stored.at[e];
  }
  const float rstd = 1.0f / sqrtf(block_sum(squares) * (1.0f / static_cast<float>(a.width)) + a.eps);
  if (threadIdx.x == 0) global_store(a.rstd + row, rstd);
  for (int v = static_cast<int>(threadIdx.x); v < vectors; v += static_cast<int>(blockDim.x))
    scale(widen(kept[v]), rstd, a.weight + v * N, static_cast<T*>(a.y) + first + v * N);
}

template <class T, int N>
__global__ void again_kernel(RmsForwardArgs a) {
  const int64_t row = blockIdx.x, first = row * a.width;
  const int vectors = static_cast<int>(a.width / N);
  const float rstd = global_load(a.rstd + row);
  for (int v = static_cast<int>(threadIdx.x); v < vectors; v += static_cast<int>(blockDim.x))
    scale(load<N>(static_cast<const T*>(a.x) + first + v * N), rstd, a.weight + v * N,
          static_cast<T*>(a.y) + first + v * N);
}

template <class T, int N>
__global__ void backward_kernel(RmsBackwardArgs a) {
  VIXEN_DYNAMIC_SHARED(shared);
  const int vectors = static_cast<int>(a.width / N);
  // Each thread reads what it wrote itself, as all its columns are its own in every row.
  auto* const kept_grad = reinterpret_cast<Vector<T, N>*>(shared);
  auto* const kept_x = kept_grad + vectors;
  auto* const sums = reinterpret_cast<Vector<float, N>*>(kept_x + vectors);
  const int me = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
  if (a.partials)
    for (int v = me; v < vectors; v += step) sums[v] = {};
  const int64_t begin = blockIdx.x * a.rows_per_chunk;
  const int64_t end = begin + a.rows_per_chunk < a.rows ? begin + a.rows_per_chunk : a.rows;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t first = row * a.width;
    const float rstd = global_load(a.rstd + row);
    float products = 0;
    for (int v = me; v < vectors; v += step) {
      kept_grad[v] = load_vector<N>(static_cast<const T*>(a.grad_y) + first + v * N);
      kept_x[v] = load_vector<N>(static_cast<const T*>(a.sum) + first + v * N);
      const Floats<N> grad = widen(kept_grad[v]), x = widen(kept_x[v]), weight = load<N>(a.weight + v * N);
      Floats<N> product;
#pragma unroll
      for (int e = 0; e < N; ++e) {
        product.at[e] = grad.at[e] * (x.at[e] * rstd);
        products += product.at[e] * weight.at[e];
      }
      if (!a.partials) continue;
#pragma unroll
      for (int e = 0; e < N; ++e) sums[v].at[e] += product.at[e];
    }
    const float mean_product = block_sum(products) * (1.0f / static_cast<float>(a.width));
    for (int v = me; v < vectors; v += step) {
      const int64_t at = first + v * N;
      const Floats<N> grad = widen(kept_grad[v]), x = widen(kept_x[v]), weight = load<N>(a.weight + v * N);
      Floats<N> out;
#pragma unroll
      for (int e = 0; e < N; ++e) out.at[e] = (grad.at[e] * weight.at[e] - x.at[e] * rstd * mean_product) * rstd;
      if (a.grad_along) {
        const Floats<N> along = load<N>(static_cast<const T*>(a.grad_along) + at);
#pragma unroll
        for (int e = 0; e < N; ++e) out.at[e] += along.at[e];
      }
      store(static_cast<T*>(a.grad_sum) + at, out);
    }
  }
  if (!a.partials) return;
  for (int v = me; v < vectors; v += step) store(a.partials + blockIdx.x * a.width + v * N, widen(sums[v]));
}

template <class Run>
int with_rows(const RmsForwardArgs& a, Run run) {
  return with_form(a.storage, a.width, aligned({a.x, a.residual, a.weight, a.sum, a.y}), run);
}

}  // namespace

int cuda::rms_forward(const RmsForwardArgs& a, int64_t rows, CUstream_st* stream) {
  return with_rows(a, [&](auto form) {
    using F = decltype(form);
    using T = typename F::T;
    return launch(forward_kernel<T, F::kLanes>, rows, row_threads(a.width / F::kLanes),
                  static_cast<size_t>(norm_shared_bytes(sizeof(T), a.width)), stream, a);
  });
}

int cuda::rms_again(const RmsForwardArgs& a, int64_t rows, CUstream_st* stream) {
  return with_rows(a, [&](auto form) {
    using F = decltype(form);
    return launch(again_kernel<typename F::T, F::kLanes>, rows, row_threads(a.width / F::kLanes), 0, stream, a);
  });
}

int cuda::rms_backward(const RmsBackwardArgs& a, int64_t chunks, CUstream_st* stream) {
  const bool vectors = aligned({a.grad_y, a.grad_along, a.sum, a.weight, a.grad_sum, a.partials});
  return with_form(a.storage, a.width, vectors, [&](auto form) {
    using F = decltype(form);
    using T = typename F::T;
    return launch(backward_kernel<T, F::kLanes>, chunks, row_threads(a.width / F::kLanes),
                  static_cast<size_t>(rms_backward_shared_bytes(sizeof(T), a.width, a.partials != nullptr)), stream, a);
  });
}

}  // namespace vixen
