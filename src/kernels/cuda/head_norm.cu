// Root-mean-square norm of the heads of queries and keys on CUDA: some lanes of a warp a head; the values' heads are
// copied. The backward one chunk of rows a block.
//   x, out, grad [T, (H + 2 Hkv) d]; normed = H + Hkv; L lanes a head, s bytes a number. Bytes asked for; those of the
//   weights, 4 d a head and pass, come from the cache.
//   forward    2 s T (H + 2 Hkv) d + T normed (4 d + 4)                                      FLOPs 5 T normed d
//   backward   3 s T normed d + 2 s T Hkv d + T normed (8 d + 4 L) + 8 chunks d              FLOPs 12 T normed d
//   and again s T normed d, or 2 s T normed d backward, from the cache where a head is more than L vectors.
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vectors.cuh"

namespace vixen {
namespace {

constexpr int kThreads = 256;

/// Lanes that share a head of `vectors`: the power of two that has them all, a warp at most.
inline int lanes_for(int64_t vectors) {
  int lanes = 1;
  while (lanes < kWarp && lanes < vectors) lanes *= 2;
  return lanes;
}

template <class T, int N>
__global__ void forward_kernel(HeadNormArgs a, int64_t rows, int lanes) {
  const int64_t d = a.head_dim, normed = a.heads + a.kv_heads, heads = normed + a.kv_heads;
  const int64_t item = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / lanes;
  const auto [row, head] = place_of(item, heads);
  const int lane = static_cast<int>(threadIdx.x) % lanes, vectors = static_cast<int>(d / N);
  // Who has no head stays for the sum of the warp.
  const bool any = row < rows, copied = head >= normed;
  const T* x = static_cast<const T*>(a.x) + item * d;
  T* out = static_cast<T*>(a.out) + item * d;
  // The first vector of a lane, mostly its only one, stays in registers.
  Vector<T, N> first = {};
  float squares = 0;
  for (int v = lane; any && v < vectors; v += lanes) {
    const Vector<T, N> values = load_vector<N>(x + v * N);
    if (v == lane) first = values;
    const Floats<N> wide = widen(values);
#pragma unroll
    for (int e = 0; e < N; ++e) squares += wide.at[e] * wide.at[e];
  }
  const float rstd = 1.0f / sqrtf(sum_of_lanes(squares, lanes) * (1.0f / static_cast<float>(d)) + a.eps);
  if (!any) return;
  if (lane == 0 && !copied) global_store(a.rstd + row * normed + head, rstd);
  const float* weight = head < a.heads ? a.q_weight : a.k_weight;
  for (int v = lane; v < vectors; v += lanes) {
    const Vector<T, N> values = v == lane ? first : load_vector<N>(x + v * N);
    if (copied) {
      global_store(reinterpret_cast<Vector<T, N>*>(out + v * N), values);
      continue;
    }
    Floats<N> wide = widen(values);
    const Floats<N> w = load<N>(weight + v * N);
#pragma unroll
    for (int e = 0; e < N; ++e) wide.at[e] = wide.at[e] * rstd * w.at[e];
    store(out + v * N, wide);
  }
}

template <class T, int N>
__global__ void backward_kernel(HeadNormArgs a, int lanes) {
  VIXEN_DYNAMIC_SHARED(shared);
  // [groups, 2, d]: gradients of the two weights by the heads of one group of lanes.
  float* const sums = reinterpret_cast<float*>(shared);
  const int64_t d = a.head_dim, normed = a.heads + a.kv_heads, heads = normed + a.kv_heads;
  const int groups = kThreads / lanes, group = static_cast<int>(threadIdx.x) / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes, vectors = static_cast<int>(d / N);
  float* const own = sums + static_cast<int64_t>(group) * 2 * d;
  if (a.partials)
    for (int v = lane; v < vectors; v += lanes)
      for (int e = 0; e < N; ++e) own[v * N + e] = own[d + v * N + e] = 0;
  const int64_t begin = blockIdx.x * a.rows_per_chunk;
  const int64_t end = begin + a.rows_per_chunk < a.rows ? begin + a.rows_per_chunk : a.rows;
  const int64_t items = (end - begin) * heads;
  for (int64_t base = 0; base < items; base += groups) {
    const auto [row_of_chunk, head] = place_of(base + group, heads);
    const int64_t row = begin + row_of_chunk;
    const bool any = row < end, copied = head >= normed;
    const T* grad_of = static_cast<const T*>(a.grad) + (row * heads + head) * d;
    const T* x_of = static_cast<const T*>(a.x) + (row * heads + head) * d;
    T* out = static_cast<T*>(a.out) + (row * heads + head) * d;
    const float* weight = head < a.heads ? a.q_weight : a.k_weight;
    float* const own_head = own + (head < a.heads ? 0 : d);
    const float rstd = any && !copied ? global_load(a.rstd + row * normed + head) : 0.0f;
    Vector<T, N> first_grad = {}, first_x = {};
    float products = 0;
    for (int v = lane; any && v < vectors; v += lanes) {
      const Vector<T, N> grad_values = load_vector<N>(grad_of + v * N);
      if (copied) {
        global_store(reinterpret_cast<Vector<T, N>*>(out + v * N), grad_values);
        continue;
      }
      const Vector<T, N> x_values = load_vector<N>(x_of + v * N);
      if (v == lane) first_grad = grad_values, first_x = x_values;
      const Floats<N> grad = widen(grad_values), x = widen(x_values), w = load<N>(weight + v * N);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        const float product = grad.at[e] * (x.at[e] * rstd);
        if (a.partials) own_head[v * N + e] += product;
        products += product * w.at[e];
      }
    }
    const float mean_product = sum_of_lanes(products, lanes) * (1.0f / static_cast<float>(d));
    for (int v = lane; any && !copied && v < vectors; v += lanes) {
      const Floats<N> grad = widen(v == lane ? first_grad : load_vector<N>(grad_of + v * N));
      const Floats<N> x = widen(v == lane ? first_x : load_vector<N>(x_of + v * N));
      const Floats<N> w = load<N>(weight + v * N);
      Floats<N> result;
#pragma unroll
      for (int e = 0; e < N; ++e) result.at[e] = (grad.at[e] * w.at[e] - x.at[e] * rstd * mean_product) * rstd;
      store(out + v * N, result);
    }
  }
  if (!a.partials) return;
  __syncthreads();
  for (int64_t c = threadIdx.x; c < 2 * d; c += kThreads) {
    float total = 0;
    for (int g = 0; g < groups; ++g) total += sums[g * 2 * d + c];
    global_store(a.partials + blockIdx.x * 2 * d + c, total);
  }
}

template <class Run>
int with_heads(const HeadNormArgs& a, Run run) {
  return with_form(a.storage, a.head_dim, aligned({a.x, a.q_weight, a.k_weight, a.out, a.grad}), run);
}

}  // namespace

int cuda::head_norm(const HeadNormArgs& a, int64_t rows, CUstream_st* stream) {
  return with_heads(a, [&](auto form) {
    using F = decltype(form);
    const int lanes = lanes_for(a.head_dim / F::kLanes);
    const int64_t threads = rows * (a.heads + 2 * a.kv_heads) * lanes;
    return launch(forward_kernel<typename F::T, F::kLanes>, (threads + kThreads - 1) / kThreads, kThreads, 0, stream, a,
                  rows, lanes);
  });
}

int cuda::head_norm_backward(const HeadNormArgs& a, int64_t chunks, CUstream_st* stream) {
  return with_heads(a, [&](auto form) {
    using F = decltype(form);
    const int lanes = lanes_for(a.head_dim / F::kLanes);
    const size_t bytes = a.partials ? sizeof(float) * static_cast<size_t>(kThreads / lanes * 2 * a.head_dim) : 0;
    return launch(backward_kernel<typename F::T, F::kLanes>, chunks, kThreads, bytes, stream, a, lanes);
  });
}

}  // namespace vixen
