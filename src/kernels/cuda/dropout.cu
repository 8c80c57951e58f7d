// Dropout on CUDA: one vector of columns a thread.
//   x, y [T, D]. s bytes a number. Bytes 2 s T D + 12 for the keys of each vector. FLOPs T D, and a Philox block of 80
//   integer operations for eight columns of bfloat16, for four of float32.
#include "kernels/cuda/dropout.cuh"

#include "kernels/cuda/launchers.hpp"

namespace vixen {
namespace {

template <class T, int N>
__global__ void apply_kernel(DropoutArgs a, int64_t rows) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= rows * vectors) return;
  const auto [row, vector] = place_of(index, vectors);
  Floats<N> values = load<N>(static_cast<const T*>(a.x) + index * N);
  const Floats<N> factors = dropout_factors<N>(row_mask(a.keys, a.dropout, row), a.dropout, vector * N);
#pragma unroll
  for (int e = 0; e < N; ++e) values.at[e] *= factors.at[e];
  store(static_cast<T*>(a.y) + index * N, values);
}

}  // namespace

int cuda::dropout(const DropoutArgs& a, int64_t rows, CUstream_st* stream) {
  return with_form(a.storage, a.width, aligned({a.x, a.y}), [&](auto form) {
    using F = decltype(form);
    return launch(apply_kernel<typename F::T, F::kLanes>, element_blocks(rows * a.width / F::kLanes), kElementThreads,
                  0, stream, a, rows);
  });
}

}  // namespace vixen
