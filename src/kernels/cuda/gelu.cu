// Exact GELU on CUDA, one vector of elements a thread, and the bias gradient that goes with it: sums over rows, one
// vector of columns of one chunk a thread.
//   n elements; x [T, F]; s bytes a number.
//   forward       bytes 2 s n                      FLOPs 3 n, an erfc each
//   backward      bytes 3 s n                      FLOPs 7 n, an erfc and an exponential each
//   column sums   bytes s T F + 4 chunks F         FLOPs T F
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/vectors.cuh"

namespace vixen {
namespace {

/// The normal distribution function, by its upper tail: nothing is lost to cancellation where it is small.
__device__ float below(float x) {
  constexpr float kHalfRoot = 0.707106781186547524f;
  return 0.5f * erfcf(-x * kHalfRoot);
}

template <class T, int N>
__global__ void forward_kernel(GeluArgs a, int64_t count) {
  const int64_t first = element_index() * N;
  if (first >= count) return;
  Floats<N> x = load<N>(static_cast<const T*>(a.x) + first);
#pragma unroll
  for (int e = 0; e < N; ++e) x.at[e] *= below(x.at[e]);
  store(static_cast<T*>(a.out) + first, x);
}

template <class T, int N>
__global__ void backward_kernel(GeluArgs a, int64_t count) {
  constexpr float kInverseRoot2Pi = 0.398942280401432678f;
  const int64_t first = element_index() * N;
  if (first >= count) return;
  const Floats<N> x = load<N>(static_cast<const T*>(a.x) + first);
  Floats<N> grad = load<N>(static_cast<const T*>(a.grad) + first);
#pragma unroll
  for (int e = 0; e < N; ++e) {
    const float v = x.at[e];
    grad.at[e] *= below(v) + v * expf(v * v * -0.5f) * kInverseRoot2Pi;
  }
  store(static_cast<T*>(a.out) + first, grad);
}

template <class T, int N>
__global__ void column_sums_kernel(ColumnSumsArgs a, int64_t chunks) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= chunks * vectors) return;
  const auto [chunk, vector] = place_of(index, vectors);
  const int64_t begin = chunk * a.rows_per_chunk;
  const int64_t end = begin + a.rows_per_chunk < a.rows ? begin + a.rows_per_chunk : a.rows;
  Floats<N> sums = {};
#pragma unroll 4
  for (int64_t row = begin; row < end; ++row) {
    const Floats<N> x = load<N>(static_cast<const T*>(a.x) + row * a.width + vector * N);
#pragma unroll
    for (int e = 0; e < N; ++e) sums.at[e] += x.at[e];
  }
  store(a.partials + chunk * a.width + vector * N, sums);
}

}  // namespace

int cuda::gelu(const GeluArgs& a, int64_t count, CUstream_st* stream) {
  return with_form(a.storage, count, aligned({a.x, a.out}), [&](auto form) {
    using F = decltype(form);
    return launch(forward_kernel<typename F::T, F::kLanes>, element_blocks(count / F::kLanes), kElementThreads, 0,
                  stream, a, count);
  });
}

int cuda::gelu_backward(const GeluArgs& a, int64_t count, CUstream_st* stream) {
  return with_form(a.storage, count, aligned({a.x, a.grad, a.out}), [&](auto form) {
    using F = decltype(form);
    return launch(backward_kernel<typename F::T, F::kLanes>, element_blocks(count / F::kLanes), kElementThreads, 0,
                  stream, a, count);
  });
}

int cuda::column_sums(const ColumnSumsArgs& a, int64_t chunks, CUstream_st* stream) {
  return with_form(a.storage, a.width, aligned({a.x, a.partials}), [&](auto form) {
    using F = decltype(form);
    return launch(column_sums_kernel<typename F::T, F::kLanes>, element_blocks(chunks * (a.width / F::kLanes)),
                  kElementThreads, 0, stream, a, chunks);
  });
}

}  // namespace vixen
