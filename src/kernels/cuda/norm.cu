// Layer norm fused with dropout and residual on CUDA: one row a block, kept in shared memory between the passes over
// it; the backward one chunk of rows a block.
//   T rows, D columns, P = threads of a block, s bytes a number. Bytes asked for; those of weight and bias, 4 D each a
//   pass, come from the cache; K = 12 P with dropout, the row's keys, else 0.
//   forward    4 s T D with residual (x, residual, sum, y), 3 s T D with dropout alone, 2 s T D without either,
//              + T (8 D + 8 + K)                                                          FLOPs 9 T D
//   backward   3 s T D (grad_y, sum, grad_sum), 4 s T D with grad_x, + T (8 D + 8 P + K) + 8 chunks D    FLOPs 16 T D
//   and a Philox block of 80 integer operations for each vector that is dropped from, twice in the backward of dropout
//   after the norm. Shared memory: s D forward, (2 s + 8) D backward.
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda_limits.hpp"

namespace vixen {
namespace {

template <class T, int N>
__global__ void forward_kernel(NormForwardArgs a) {
  VIXEN_DYNAMIC_SHARED(shared);
  // Each thread reads what it wrote itself: no barrier.
  auto* const kept = reinterpret_cast<Vector<T, N>*>(shared);
  const int64_t row = blockIdx.x, first = row * a.width;
  const int vectors = static_cast<int>(a.width / N), me = static_cast<int>(threadIdx.x);
  const int step = static_cast<int>(blockDim.x);
  const float inverse_width = 1.0f / static_cast<float>(a.width);
  const bool drop = a.dropout.threshold > 0;
  const RowMask mask = drop ? row_mask(a.keys, a.dropout, row) : RowMask{};
  float total = 0;
  for (int v = me; v < vectors; v += step) {
    Vector<T, N> values = load_vector<N>(static_cast<const T*>(a.x) + first + v * N);
    if (a.sum) {
      Floats<N> sum = widen(values);
      if (drop && !a.dropout_after) {
        const Floats<N> factors = dropout_factors<N>(mask, a.dropout, v * N);
#pragma unroll
        for (int e = 0; e < N; ++e) sum.at[e] *= factors.at[e];
      }
      if (a.residual) {
        const Floats<N> residual = load<N>(static_cast<const T*>(a.residual) + first + v * N);
#pragma unroll
        for (int e = 0; e < N; ++e) sum.at[e] += residual.at[e];
      }
      values = narrow<T>(sum);
      global_store(reinterpret_cast<Vector<T, N>*>(static_cast<T*>(a.sum) + first + v * N), values);
    }
    kept[v] = values;
    const Floats<N> stored = widen(values);
#pragma unroll
    for (int e = 0; e < N; ++e) total += stored.at[e];
  }
  const float mean = block_sum(total) * inverse_width;
  float squares = 0;
  for (int v = me; v < vectors; v += step) {
    const Floats<N> stored = widen(kept[v]);
#pragma unroll
    for (int e = 0; e < N; ++e) squares += (stored.at[e] - mean) * (stored.at[e] - mean);
  }
  const float inverse = 1.0f / sqrtf(block_sum(squares) * inverse_width + a.eps);
  if (me == 0) {
    global_store(a.stats + 2 * row, mean);
    global_store(a.stats + 2 * row + 1, inverse);
  }
  for (int v = me; v < vectors; v += step) {
    Floats<N> y = widen(kept[v]);
    const Floats<N> weight = load<N>(a.weight + v * N), bias = load<N>(a.bias + v * N);
#pragma unroll
    for (int e = 0; e < N; ++e) y.at[e] = (y.at[e] - mean) * inverse * weight.at[e] + bias.at[e];
    if (drop && a.dropout_after) {
      const Floats<N> factors = dropout_factors<N>(mask, a.dropout, v * N);
#pragma unroll
      for (int e = 0; e < N; ++e) y.at[e] = rounded<T>(y.at[e]) * factors.at[e];
    }
    store(static_cast<T*>(a.y) + first + v * N, y);
  }
}

template <class T, int N>
__global__ void backward_kernel(NormBackwardArgs a) {
  VIXEN_DYNAMIC_SHARED(shared);
  const int vectors = static_cast<int>(a.width / N), me = static_cast<int>(threadIdx.x);
  const int step = static_cast<int>(blockDim.x);
  // Each thread reads what it wrote itself, as all its columns are its own in every row.
  auto* const weight_sums = reinterpret_cast<Vector<float, N>*>(shared);
  auto* const bias_sums = weight_sums + vectors;
  auto* const kept_grad = reinterpret_cast<Vector<T, N>*>(bias_sums + vectors);
  auto* const kept_x = kept_grad + vectors;
  for (int v = me; v < vectors; v += step) weight_sums[v] = bias_sums[v] = {};
  const float inverse_width = 1.0f / static_cast<float>(a.width);
  const bool drop = a.dropout.threshold > 0;
  const int64_t begin = blockIdx.x * a.rows_per_chunk;
  const int64_t end = begin + a.rows_per_chunk < a.rows ? begin + a.rows_per_chunk : a.rows;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t first = row * a.width;
    const float mean = global_load(a.stats + 2 * row), inverse = global_load(a.stats + 2 * row + 1);
    const RowMask mask = drop ? row_mask(a.keys, a.dropout, row) : RowMask{};
    const auto grad_of_norm = [&](int v) {
      Floats<N> grad = widen(kept_grad[v]);
      if (drop && a.dropout_after) {
        const Floats<N> factors = dropout_factors<N>(mask, a.dropout, v * N);
#pragma unroll
        for (int e = 0; e < N; ++e) grad.at[e] *= factors.at[e];
      }
      return grad;
    };
    float sums[2] = {0, 0};  // of the weighted gradients, and of their products with the normal values
    for (int v = me; v < vectors; v += step) {
      kept_grad[v] = load_vector<N>(static_cast<const T*>(a.grad_y) + first + v * N);
      kept_x[v] = load_vector<N>(static_cast<const T*>(a.sum) + first + v * N);
      const Floats<N> grad = grad_of_norm(v), x = widen(kept_x[v]), weight = load<N>(a.weight + v * N);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        const float normal = (x.at[e] - mean) * inverse, weighted = grad.at[e] * weight.at[e];
        weight_sums[v].at[e] += grad.at[e] * normal;
        bias_sums[v].at[e] += grad.at[e];
        sums[0] += weighted;
        sums[1] += weighted * normal;
      }
    }
    block_sums(sums);
    const float mean_grad = sums[0] * inverse_width, mean_product = sums[1] * inverse_width;
    for (int v = me; v < vectors; v += step) {
      const Floats<N> grad = grad_of_norm(v), x = widen(kept_x[v]), weight = load<N>(a.weight + v * N);
      Floats<N> out;
#pragma unroll
      for (int e = 0; e < N; ++e) {
        const float normal = (x.at[e] - mean) * inverse;
        out.at[e] = (grad.at[e] * weight.at[e] - mean_grad - normal * mean_product) * inverse;
      }
      store(static_cast<T*>(a.grad_sum) + first + v * N, out);
      if (!a.grad_x) continue;
      const Floats<N> factors = dropout_factors<N>(mask, a.dropout, v * N);
#pragma unroll
      for (int e = 0; e < N; ++e) out.at[e] *= factors.at[e];
      store(static_cast<T*>(a.grad_x) + first + v * N, out);
    }
  }
  float* const partials = a.partials + blockIdx.x * 2 * a.width;
  for (int v = me; v < vectors; v += step) {
    store(partials + v * N, widen(weight_sums[v]));
    store(partials + a.width + v * N, widen(bias_sums[v]));
  }
}

}  // namespace

int cuda::norm_forward(const NormForwardArgs& a, int64_t rows, CUstream_st* stream) {
  const bool vectors = aligned({a.x, a.residual, a.weight, a.bias, a.sum, a.y});
  return with_form(a.storage, a.width, vectors, [&](auto form) {
    using F = decltype(form);
    using T = typename F::T;
    return launch(forward_kernel<T, F::kLanes>, rows, row_threads(a.width / F::kLanes),
                  static_cast<size_t>(norm_shared_bytes(sizeof(T), a.width)), stream, a);
  });
}

int cuda::norm_backward(const NormBackwardArgs& a, int64_t chunks, CUstream_st* stream) {
  const bool vectors = aligned({a.grad_y, a.sum, a.weight, a.grad_sum, a.grad_x, a.partials});
  return with_form(a.storage, a.width, vectors, [&](auto form) {
    using F = decltype(form);
    using T = typename F::T;
    return launch(backward_kernel<T, F::kLanes>, chunks, row_threads(a.width / F::kLanes),
                  static_cast<size_t>(norm_backward_shared_bytes(sizeof(T), a.width)), stream, a);
  });
}

}  // namespace vixen
