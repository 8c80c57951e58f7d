// SwiGLU on CUDA: one vector of columns a thread.
//   gate_up [T, 2F]: gate | up. s bytes a number.
//   forward    bytes 3 s T F: gate and up read, out written                        FLOPs 5 T F, an exponential each
//   backward   bytes 5 s T F: gate, up and grad read, both gradients written       FLOPs 11 T F, an exponential each
//              and s T F more where the activation is written too, which saves reading gate and up once more for it
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/vectors.cuh"

namespace vixen {
namespace {

/// sigmoid(x) and 1 - sigmoid(x), neither by a difference; x at least -87, below which 1 + exp(-x) overflows.
struct Sigmoid {
  float value, rest;
};
__device__ Sigmoid sigmoid(float x) {
  const float e = expf(-fmaxf(x, -87.0f)), value = 1.0f / (1.0f + e);
  return {value, e * value};
}

template <class T, int N>
__global__ void forward_kernel(SwigluArgs a, int64_t rows) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= rows * vectors) return;
  const auto [row, vector] = place_of(index, vectors);
  const T* from = static_cast<const T*>(a.gate_up) + row * 2 * a.width + vector * N;
  const Floats<N> gate = load<N>(from), up = load<N>(from + a.width);
  Floats<N> out;
#pragma unroll
  for (int e = 0; e < N; ++e) out.at[e] = gate.at[e] * sigmoid(gate.at[e]).value * up.at[e];
  store(static_cast<T*>(a.out) + index * N, out);
}

template <class T, int N>
__global__ void backward_kernel(SwigluArgs a, int64_t rows) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= rows * vectors) return;
  const auto [row, vector] = place_of(index, vectors);
  const int64_t first = row * 2 * a.width + vector * N;
  const T* from = static_cast<const T*>(a.gate_up) + first;
  const Floats<N> gate = load<N>(from), up = load<N>(from + a.width);
  const Floats<N> grad = load<N>(static_cast<const T*>(a.grad) + index * N);
  Floats<N> grad_gate, grad_up, activation;
#pragma unroll
  for (int e = 0; e < N; ++e) {
    const float g = gate.at[e], d = grad.at[e];
    const Sigmoid s = sigmoid(g);
    grad_gate.at[e] = d * up.at[e] * (s.value * (1.0f + g * s.rest));
    grad_up.at[e] = d * (g * s.value);
    activation.at[e] = g * s.value * up.at[e];  // as the forward makes it, to the bit
  }
  T* to = static_cast<T*>(a.out) + first;
  store(to, grad_gate);
  store(to + a.width, grad_up);
  if (a.activation) store(static_cast<T*>(a.activation) + index * N, activation);
}

bool vectors_fit(const SwigluArgs& a) {
  return aligned({a.gate_up, a.grad, a.out, a.activation});
}

}  // namespace

int cuda::swiglu(const SwigluArgs& a, int64_t rows, CUstream_st* stream) {
  return with_form(a.storage, a.width, vectors_fit(a), [&](auto form) {
    using F = decltype(form);
    return launch(forward_kernel<typename F::T, F::kLanes>, element_blocks(rows * a.width / F::kLanes), kElementThreads,
                  0, stream, a, rows);
  });
}

int cuda::swiglu_backward(const SwigluArgs& a, int64_t rows, CUstream_st* stream) {
  return with_form(a.storage, a.width, vectors_fit(a), [&](auto form) {
    using F = decltype(form);
    return launch(backward_kernel<typename F::T, F::kLanes>, element_blocks(rows * a.width / F::kLanes),
                  kElementThreads, 0, stream, a, rows);
  });
}

}  // namespace vixen
