// Rotary positions on CUDA, in place: a thread turns one vector of a head's first half with its partner of the second,
// in four heads, for which it reads the angles once.
//   qkv [T, (H + 2 Hkv) d], of which the first `heads` = H + Hkv are turned; table [P, d]: cos | sin. s bytes a number.
//   Bytes 2 s T heads d, each number read and written, + T ceil(heads / 4) 4 d of the table, which the cache holds, + 8
//   for the position, a thread. FLOPs 3 T heads d.
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/vectors.cuh"

namespace vixen {
namespace {

constexpr int kHeads = 4;

template <class T, int N>
__global__ void rope_kernel(RopeArgs a, int64_t rows) {
  const int64_t half = a.head_dim / 2, vectors = half / N, groups = (a.heads + kHeads - 1) / kHeads;
  const int64_t index = element_index();
  if (index >= rows * groups * vectors) return;
  const auto [piece, vector] = place_of(index, vectors);
  const auto [row, group] = place_of(piece, groups);
  const float* angles = a.table + global_load(a.position_ids + row) * a.head_dim + vector * N;
  const Floats<N> cosine = load<N>(angles);
  Floats<N> sine = load<N>(angles + half);
  if (a.inverse) {
#pragma unroll
    for (int e = 0; e < N; ++e) sine.at[e] = -sine.at[e];
  }
#pragma unroll
  for (int i = 0; i < kHeads; ++i) {
    const int64_t head = group * kHeads + i;
    if (head >= a.heads) return;
    T* const left = static_cast<T*>(a.qkv) + row * a.row_width + head * a.head_dim + vector * N;
    const Floats<N> x = load<N>(left), y = load<N>(left + half);
    Floats<N> turned_x, turned_y;
#pragma unroll
    for (int e = 0; e < N; ++e) {
      turned_x.at[e] = x.at[e] * cosine.at[e] - y.at[e] * sine.at[e];
      turned_y.at[e] = y.at[e] * cosine.at[e] + x.at[e] * sine.at[e];
    }
    store(left, turned_x);
    store(left + half, turned_y);
  }
}

}  // namespace

int cuda::rope(const RopeArgs& a, int64_t rows, CUstream_st* stream) {
  const int64_t half = a.head_dim / 2;  // vectors end with it
  return with_form(a.storage, half, aligned({a.qkv, a.table}), [&](auto form) {
    using F = decltype(form);
    const int64_t threads = rows * ((a.heads + kHeads - 1) / kHeads) * (half / F::kLanes);
    return launch(rope_kernel<typename F::T, F::kLanes>, element_blocks(threads), kElementThreads, 0, stream, a, rows);
  });
}

}  // namespace vixen
