// Input embeddings on CUDA, pictures in their places: one vector of a row a thread; and sums of gradient rows of one
// token each, one vector of a segment a thread, in the order of its rows.
//   T rows, D columns of N a vector, w bytes a number of the table, s of out or of x. V = T D / N threads.
//   embed_positions   bytes T D (8 + s), 4 T D more with types, + 16 V of ids, 8 V more with pictures     FLOPs 2 T D
//   embed_tokens      bytes T D (w + s), + 8 V of ids, 8 V more with pictures, whose rows have 4 bytes a number
//                     and need no token                                                                  no FLOPs
//   segment_sums      R rows in S segments and E empty ones: bytes s R D + 8 S D + (8 R + 24 S + 16 E) D / N
//                                                                                                     FLOPs R D
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/vectors.cuh"

namespace vixen {
namespace {

/// The row of a picture at a position, or -1.
__device__ int64_t image_at(const int64_t* image_rows, int64_t row) {
  return image_rows ? global_load(image_rows + row) : -1;
}

template <int N>
__device__ void add(Floats<N>& to, const Floats<N>& what) {
#pragma unroll
  for (int e = 0; e < N; ++e) to.at[e] += what.at[e];
}

template <class T, int N>
__global__ void positions_kernel(EmbedPositionsArgs a, int64_t rows) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= rows * vectors) return;
  const auto [row, vector] = place_of(index, vectors);
  const int64_t column = vector * N, image = image_at(a.image_rows, row);
  const float* from = image >= 0 ? a.images + image * a.width : a.word + global_load(a.tokens + row) * a.width;
  Floats<N> sum = load<N>(from + column);
  add(sum, load<N>(a.position + global_load(a.position_ids + row) * a.width + column));
  if (a.type) add(sum, load<N>(a.type + column));
  store(static_cast<T*>(a.out) + index * N, sum);
}

template <class T, int N, class Word>
__global__ void tokens_kernel(EmbedTokensArgs a, int64_t rows) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= rows * vectors) return;
  const auto [row, vector] = place_of(index, vectors);
  const int64_t column = vector * N, image = image_at(a.image_rows, row);
  if (image >= 0) {
    store(static_cast<T*>(a.out) + index * N, load<N>(a.images + image * a.width + column));
  } else {
    const Word* from = static_cast<const Word*>(a.word) + global_load(a.tokens + row) * a.width;
    store(static_cast<T*>(a.out) + index * N, load<N>(from + column));
  }
}

template <class T, int N>
__global__ void segments_kernel(SegmentSumsArgs a, int64_t segments) {
  const int64_t vectors = a.width / N, index = element_index();
  if (index >= segments * vectors) return;
  const auto [segment, vector] = place_of(index, vectors);
  const int64_t begin = global_load(a.segments + segment), end = global_load(a.segments + segment + 1);
  if (begin == end) return;  // most rows of a table are in no batch
  float* const target = a.target + global_load(a.target_rows + segment) * a.width + vector * N;
  Floats<N> sum = load<N>(target);
#pragma unroll 8
  for (int64_t i = begin; i < end; ++i)
    add(sum, load<N>(static_cast<const T*>(a.x) + global_load(a.order + i) * a.width + vector * N));
  store(target, sum);
}

}  // namespace

int cuda::embed_positions(const EmbedPositionsArgs& a, int64_t rows, CUstream_st* stream) {
  return with_form(a.storage, a.width, aligned({a.word, a.position, a.type, a.images, a.out}), [&](auto form) {
    using F = decltype(form);
    return launch(positions_kernel<typename F::T, F::kLanes>, element_blocks(rows * (a.width / F::kLanes)),
                  kElementThreads, 0, stream, a, rows);
  });
}

int cuda::embed_tokens(const EmbedTokensArgs& a, int64_t rows, CUstream_st* stream) {
  return with_form(a.storage, a.width, aligned({a.word, a.images, a.out}), [&](auto form) {
    using F = decltype(form);
    using T = typename F::T;
    constexpr int N = F::kLanes;
    auto* const kernel = a.table_storage == TableStorage::kFloat32    ? tokens_kernel<T, N, float>
                         : a.table_storage == TableStorage::kBfloat16 ? tokens_kernel<T, N, Bfloat16>
                                                                      : tokens_kernel<T, N, Float16>;
    return launch(kernel, element_blocks(rows * (a.width / N)), kElementThreads, 0, stream, a, rows);
  });
}

int cuda::segment_sums(const SegmentSumsArgs& a, int64_t segments, CUstream_st* stream) {
  return with_form(a.storage, a.width, aligned({a.x, a.target}), [&](auto form) {
    using F = decltype(form);
    return launch(segments_kernel<typename F::T, F::kLanes>, element_blocks(segments * (a.width / F::kLanes)),
                  kElementThreads, 0, stream, a, segments);
  });
}

}  // namespace vixen
