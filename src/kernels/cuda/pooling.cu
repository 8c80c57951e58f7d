// Mean pooling on CUDA: a thread takes one vector of columns through the rows of one sequence, in their order.
//   x [T, D], offsets [n + 1], pooled [n, D] float32; N columns of a vector, s bytes a number.
//   Forward and backward alike: bytes s T D + 4 n D + 8 n D / N, x on one side and pooled on the other.
//   FLOPs T D forward, n D backward.
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/vectors.cuh"

namespace vixen {
namespace {

template <class T, int N>
__global__ void forward_kernel(PoolArgs a, int64_t sequences) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= sequences * vectors) return;
  const auto [sequence, vector] = place_of(index, vectors);
  const int64_t begin = global_load(a.offsets + sequence), end = global_load(a.offsets + sequence + 1);
  Floats<N> total = {};
#pragma unroll 4
  for (int64_t row = begin; row < end; ++row) {
    const Floats<N> x = load<N>(static_cast<const T*>(a.x) + row * a.width + vector * N);
#pragma unroll
    for (int e = 0; e < N; ++e) total.at[e] += x.at[e];
  }
  const float share = 1.0f / static_cast<float>(end - begin);
#pragma unroll
  for (int e = 0; e < N; ++e) total.at[e] *= share;
  store(a.pooled + index * N, total);
}

template <class T, int N>
__global__ void backward_kernel(PoolArgs a, int64_t sequences) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= sequences * vectors) return;
  const auto [sequence, vector] = place_of(index, vectors);
  const int64_t begin = global_load(a.offsets + sequence), end = global_load(a.offsets + sequence + 1);
  const float share = 1.0f / static_cast<float>(end - begin);
  Floats<N> grad = load<N>(a.pooled + index * N);
#pragma unroll
  for (int e = 0; e < N; ++e) grad.at[e] *= share;
  for (int64_t row = begin; row < end; ++row) store(static_cast<T*>(a.x) + row * a.width + vector * N, grad);
}

}  // namespace

int cuda::mean_pool(const PoolArgs& a, int64_t sequences, CUstream_st* stream) {
  return with_form(a.storage, a.width, aligned({a.x, a.pooled}), [&](auto form) {
    using F = decltype(form);
    return launch(forward_kernel<typename F::T, F::kLanes>, element_blocks(sequences * (a.width / F::kLanes)),
                  kElementThreads, 0, stream, a, sequences);
  });
}

int cuda::mean_pool_backward(const PoolArgs& a, int64_t sequences, CUstream_st* stream) {
  return with_form(a.storage, a.width, aligned({a.x, a.pooled}), [&](auto form) {
    using F = decltype(form);
    return launch(backward_kernel<typename F::T, F::kLanes>, element_blocks(sequences * (a.width / F::kLanes)),
                  kElementThreads, 0, stream, a, sequences);
  });
}

}  // namespace vixen
