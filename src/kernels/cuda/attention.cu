// Attention over packed sequences of at most 256 positions on CUDA: a block takes one key-value head of one sequence
// and the query heads that share it. Probabilities are made once more in the backward; nothing is padded to tiles in
// global memory, and no two blocks write one place.
//   L positions of a sequence, T of all, H query heads over Hkv key-value heads of d columns, G = H / Hkv; s bytes a
//   number, P threads of a block, E = 8 P for a sequence's offsets, 16 P with dropout's key. Keys a round: those that
//   the warps of a block take at a time, 8 or 4 a warp; rounds of the backward: 1 up to 32 positions, 4 at 128, more
//   where shared memory leaves room for fewer than eight warps.
//   forward    bytes s T d (2 H + 2 Hkv) + 4 T H + n Hkv E                             FLOPs 4 d H sum of L^2
//   backward   bytes s T d (5 H + 6 Hkv) + 4 T H + n Hkv E; of these 2 s T d (H + Hkv), a second reading of all, come
//              from the cache. With G > 1 queries and gradients are read again in each round, 2 s L d H a sequence.
//              FLOPs 14 d H sum of L^2, ten and once more the scores and their gradients, where ten would need the
//              L x L probabilities or gradients of all keys in shared memory
//   Half of the FLOPs where causal. A Philox block of 80 integer operations for 8 probabilities, twice in the backward.
//   Shared memory: two matrices of 4 (d + 4) bytes a position of the batch's longest sequence; a warp's tile of R = 8
//   or 4 rows, 4 R (d + 32) bytes, twice in the backward; there 8 bytes a query of the block besides. Backward with d =
//   64 and G = 1: 5 KiB at L = 3, 41 at 32, 93 at 128, 159 at 256; with d = 128 at 128: 158. Wider heads have room for
//   fewer positions (cuda_limits.hpp).
//
// It is plain float32 FMA on CUDA cores. Why not tensor cores: products of 26 x 26 x 64 fill a fifth of the tiles that
// flash attention computes, and float32 storage is asked to be float32. Against flash attention in bfloat16, which
// needs no dropout: its backward zeroes, adds to and reads a float32 gradient of queries of T + 128 n positions, about
// 12 (L + 128) H d bytes a sequence, 4 (L + 128) H d ps at 3 TB/s; the 14 d H L^2 FLOPs here are 0.7 L^2 H d ps at 20
// TFLOP/s, half of it where causal. The two meet at 30 positions, at 44 where causal, if all were as long as the
// longest; sequences of text are about half as long, so that this kernel is taken up to 64 (kernels/cuda_forms.hpp).
// Arithmetic, not measured.
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda_limits.hpp"

namespace vixen {
namespace {

constexpr int kMostWarps = 8;
constexpr int kRefused = 1;  // cudaErrorInvalidValue

/// Four columns: shared memory holds float32, whatever the storage, its rows filled up with zeros.
using Quad = Vector<float, 4>;

/// What a block has in shared memory, one after another: two matrices of rows of the sequence, the tiles of the warps,
/// and the rows' statistics.
struct Layout {
  int quads;   // of a row
  int stride;  // quads from row to row of a matrix: odd, so that 8 lanes that read 8 rows meet no bank twice
  int lanes;   // that share a row of a result, a power of two
  int longest;
  int warps;
  int warp_quads;  // of a warp's tile
  int statistics;  // floats
};

int64_t bytes_of(const Layout& at) {
  const int64_t quads = int64_t{2} * at.longest * at.stride + int64_t{at.warps} * at.warp_quads;
  return static_cast<int64_t>(sizeof(Quad)) * quads + static_cast<int64_t>(sizeof(float)) * at.statistics;
}

/// matrices: of rows_a_tile rows that a warp holds; statistics: floats of the block.
Layout layout_of(const AttentionArgs& a, int rows_a_tile, int matrices, int64_t statistics) {
  Layout at{};
  at.quads = static_cast<int>((a.head_dim + 3) / 4);
  at.stride = at.quads | 1;
  at.lanes = 1;
  while (at.lanes < at.quads) at.lanes *= 2;
  at.longest = static_cast<int>(a.max_seqlen);
  at.warp_quads = matrices * (rows_a_tile * at.quads + kWarp * rows_a_tile / 4);
  at.statistics = static_cast<int>(statistics);
  at.warps = (at.longest + rows_a_tile - 1) / rows_a_tile;
  if (at.warps > kMostWarps) at.warps = kMostWarps;
  if (at.warps < 1) at.warps = 1;
  while (at.warps > 1 && bytes_of(at) > kMostSharedBytes) at.warps /= 2;
  return at;
}

/// Where the rows of this block's sequence begin, and its heads.
struct Item {
  int64_t first, length, sequence, kv_head;
  int64_t stride, context_stride;                  // (H + 2 Hkv) d, H d
  int64_t query_column, key_column, value_column;  // of the first query head, and of the key-value head
  int group;                                       // query heads of the key-value head
};
__device__ inline Item item_of(const AttentionArgs& a) {
  const auto [sequence, kv_head] = place_of(blockIdx.x, a.kv_heads);
  Item item;
  item.sequence = sequence;
  item.kv_head = kv_head;
  item.first = global_load(a.offsets + sequence);
  item.length = global_load(a.offsets + sequence + 1) - item.first;
  item.group = static_cast<int>(a.heads / a.kv_heads);
  item.stride = (a.heads + 2 * a.kv_heads) * a.head_dim;
  item.context_stride = a.heads * a.head_dim;
  item.query_column = kv_head * item.group * a.head_dim;
  item.key_column = (a.heads + kv_head) * a.head_dim;
  item.value_column = item.key_column + a.kv_heads * a.head_dim;
  return item;
}

/// `rows` rows of `columns` numbers, `step` apart, times `scale` into shared memory, `stride` quads apart; rows up to
/// `filled` become zero. Thread `me` of `many` takes its share.
template <class T, int N>
__device__ void stage(const T* from, int64_t step, int rows, int filled, int columns, float scale, Quad* to, int stride,
                      int me, int many) {
  constexpr int kQuads = N < 4 ? 1 : N / 4;
  const int pieces = (columns + 4 * kQuads - 1) / (4 * kQuads);
  for (int i = me; i < filled * pieces; i += many) {
    const int row = i / pieces, piece = i % pieces;
    Floats<4 * kQuads> values = {};
    if (row < rows) {
      const T* const source = from + row * step + piece * 4 * kQuads;
      if constexpr (N >= 4) {
        values = load<4 * kQuads>(source);
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (piece * 4 + e < columns) values.at[e] = as_float(global_load(source + e));
      }
    }
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      Quad out;
#pragma unroll
      for (int e = 0; e < 4; ++e) out.at[e] = values.at[4 * q + e] * scale;
      to[row * stride + piece * kQuads + q] = out;
    }
  }
}

/// out[r]: row r of a warp's tile times the row `of` of a matrix.
template <int R>
__device__ void products(const Quad* tile, int quads, const Quad* of, float (&out)[R]) {
#pragma unroll
  for (int r = 0; r < R; ++r) out[r] = 0;
#pragma unroll 1  // or the registers of four columns at once halve the warps that a multiprocessor has
  for (int c = 0; c < quads; ++c) {
    const Quad b = of[c];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const Quad a = tile[r * quads + c];
#pragma unroll
      for (int e = 0; e < 4; ++e) out[r] += a.at[e] * b.at[e];
    }
  }
}

/// A lane's part of results [R, d]: 4 columns of all rows, from every `slices`-th of what is added up.
template <int R>
struct Part {
  Floats<4> at[R];
};
struct Share {
  int slice, slices, quad;
  bool any;  // the lane has columns
};
__device__ inline Share share_of(const Layout& at, int lane) {
  const int quad = lane % at.lanes;
  return {lane / at.lanes, kWarp / at.lanes, quad, quad < at.quads};
}

/// This lane's weights of R rows, for the others of the warp.
template <int R>
__device__ void put(const float (&weights)[R], Quad* to, int lane) {
#pragma unroll
  for (int q = 0; q < R / 4; ++q) {
    Quad out;
#pragma unroll
    for (int e = 0; e < 4; ++e) out.at[e] = weights[4 * q + e];
    to[lane * (R / 4) + q] = out;
  }
}

/// out[r] += sum over j < count of weights[j][r] times row j of the matrix: this lane's part of it.
template <int R>
__device__ void combine(const Quad* weights, const Quad* matrix, int stride, int count, const Share& share,
                        Part<R>& out) {
  if (!share.any) return;
#pragma unroll 1
  for (int j = share.slice; j < count; j += share.slices) {
    const Quad row = matrix[j * stride + share.quad];
#pragma unroll
    for (int q = 0; q < R / 4; ++q) {
      const Quad weight = weights[j * (R / 4) + q];
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int e = 0; e < 4; ++e) out.at[4 * q + r].at[e] += weight.at[r] * row.at[e];
    }
  }
}

/// Adds up the lanes' parts and writes `count` rows, `step` apart, times scale[r]. The whole warp must come.
template <class T, int N, int R>
__device__ void write(Part<R>& part, const float (&scale)[R], const Share& share, int columns, int count, T* to,
                      int64_t step) {
#pragma unroll
  for (int r = 0; r < R; ++r) {
    Floats<4>& sum = part.at[r];
    for (int apart = kWarp / share.slices; apart < kWarp; apart *= 2)
#pragma unroll
      for (int e = 0; e < 4; ++e) sum.at[e] += __shfl_xor_sync(kWholeWarp, sum.at[e], apart);
    // All slices have the sums: they divide the rows.
    if (!share.any || r >= count || r % share.slices != share.slice) continue;
#pragma unroll
    for (int e = 0; e < 4; ++e) sum.at[e] *= scale[r];
    T* const place = to + r * step + 4 * share.quad;
    if constexpr (N >= 4) {
      store(place, sum);
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (4 * share.quad + e >= columns) continue;
        T stored;
        assign(stored, sum.at[e]);
        global_store(place + e, stored);
      }
    }
  }
}

__device__ inline float larger_of_lanes(float value) {
  for (int apart = kWarp / 2; apart > 0; apart /= 2) value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, apart));
  return value;
}

/// Whether a block's probabilities are dropped from, and the words of Philox counters that all of them share.
struct Mask {
  bool drops;
  uint32_t sequence, step;
};
__device__ inline Mask mask_of(const AttentionArgs& a, const Item& item) {
  if (a.dropout.threshold == 0) return {false, 0, 0};
  return {true, static_cast<uint32_t>(global_load(a.sequence_keys + item.sequence)), step_of(a.dropout)};
}
/// Bits of the keys 8 block .. 8 block + 7 for one query: kernels/dropout.hpp, columns of `head`.
__device__ inline uint32_t kept_keys(const AttentionArgs& a, const Mask& mask, int64_t head, int query, int block) {
  const RowMask row{mask.sequence, a.dropout.site << 16 | static_cast<uint32_t>(query), mask.step};
  return kept_bits(row, a.dropout, static_cast<uint32_t>(head * (65536 / 8) + block));
}
/// Bits of 32 keys from `first` on for the R queries from `top` on: lane 4 r + b has those of query r, block b.
__device__ inline uint32_t kept_of_tile(const AttentionArgs& a, const Mask& mask, int64_t head, int top, int first,
                                        int lane) {
  return mask.drops ? kept_keys(a, mask, head, top + lane / 4, first / 8 + lane % 4) : 0;
}
/// What the probability of query r of the tile and this lane's key is multiplied with. The whole warp must come.
__device__ inline float factor_of(const AttentionArgs& a, const Mask& mask, uint32_t kept, int r, int lane) {
  if (!mask.drops) return 1;
  const uint32_t bits = __shfl_sync(kWholeWarp, kept, 4 * r + lane / 8);
  return bits >> lane % 8 & 1u ? a.dropout.scale : 0.0f;
}

__device__ inline int smaller(int a, int b) {
  return a < b ? a : b;
}

template <class T, int N, int R>
__global__ void forward_kernel(AttentionArgs a, Layout at) {
  VIXEN_DYNAMIC_SHARED(shared);
  const Item item = item_of(a);
  if (item.length == 0) return;
  const int me = static_cast<int>(threadIdx.x), lane = me % kWarp, warp = me / kWarp, threads = at.warps * kWarp;
  const int length = static_cast<int>(item.length), d = static_cast<int>(a.head_dim);
  Quad* const keys = reinterpret_cast<Quad*>(shared);
  Quad* const values = keys + at.longest * at.stride;
  Quad* const queries = values + at.longest * at.stride + warp * at.warp_quads;
  Quad* const weights = queries + R * at.quads;
  const T* const qkv = static_cast<const T*>(a.qkv) + item.first * item.stride;
  stage<T, N>(qkv + item.key_column, item.stride, length, length, d, 1.0f, keys, at.stride, me, threads);
  stage<T, N>(qkv + item.value_column, item.stride, length, length, d, 1.0f, values, at.stride, me, threads);
  __syncthreads();
  const Mask mask = mask_of(a, item);
  const Share share = share_of(at, lane);
  const float scale = 1.0f / sqrtf(static_cast<float>(d));
  for (int member = 0; member < item.group; ++member) {
    const int64_t head = item.kv_head * item.group + member;
    for (int top = warp * R; top < length; top += at.warps * R) {
      const int count = smaller(R, length - top), reach = a.causal ? top + count : length;
      __syncwarp(kWholeWarp);
      stage<T, N>(qkv + top * item.stride + item.query_column + member * d, item.stride, count, R, d, scale, queries,
                  at.quads, lane, kWarp);
      __syncwarp(kWholeWarp);
      Part<R> context = {};
      float peak[R], total[R];
#pragma unroll
      for (int r = 0; r < R; ++r) peak[r] = -3e38f, total[r] = 0;
      for (int first = 0; first < reach; first += kWarp) {
        const int key = first + lane;
        const uint32_t kept = kept_of_tile(a, mask, head, top, first, lane);
        float scores[R];
        products<R>(queries, at.quads, keys + smaller(key, length - 1) * at.stride, scores);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const bool seen = key < (a.causal ? smaller(top + r + 1, length) : length);
          const float most = fmaxf(peak[r], larger_of_lanes(seen ? scores[r] : -3e38f));
          const float shrink = expf(peak[r] - most), p = seen ? expf(scores[r] - most) : 0.0f;
          peak[r] = most;
          total[r] = total[r] * shrink + p;
#pragma unroll
          for (int e = 0; e < 4; ++e) context.at[r].at[e] *= shrink;
          scores[r] = p * factor_of(a, mask, kept, r, lane);
        }
        put<R>(scores, weights, lane);
        __syncwarp(kWholeWarp);
        combine<R>(weights, values + first * at.stride, at.stride, smaller(kWarp, reach - first), share, context);
        __syncwarp(kWholeWarp);
      }
      float inverse[R], lse = 0;
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const float sum = sum_of_lanes(total[r], kWarp);
        inverse[r] = 1.0f / sum;
        if (lane == r) lse = peak[r] + logf(sum);
      }
      if (lane < count) global_store(a.lse + head * a.positions + item.first + top + lane, lse);
      T* const to = static_cast<T*>(a.context) + (item.first + top) * item.context_stride + head * d;
      write<T, N, R>(context, inverse, share, d, count, to, item.context_stride);
    }
  }
}

/// Gradients of the queries, and what the sum over a row of its probabilities times their gradients is, for the keys'.
/// K: most chunks of 32 keys.
template <class T, int N, int R, int K>
__device__ void query_gradients(const AttentionArgs& a, const Layout& at, const Item& item, const Mask& mask,
                                int member, const Quad* keys, const Quad* values, Quad* tile, float* statistics) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int length = static_cast<int>(item.length), d = static_cast<int>(a.head_dim);
  const int64_t head = item.kv_head * item.group + member;
  Quad* const queries = tile;
  Quad* const grads = queries + R * at.quads;
  Quad* const weights = grads + R * at.quads;
  const Share share = share_of(at, lane);
  const float scale = 1.0f / sqrtf(static_cast<float>(d));
  float scales[R];
#pragma unroll
  for (int r = 0; r < R; ++r) scales[r] = scale;
  for (int top = warp * R; top < length; top += at.warps * R) {
    const int count = smaller(R, length - top), reach = a.causal ? top + count : length;
    const int64_t row = item.first + top, column = item.query_column + member * d;
    __syncwarp(kWholeWarp);
    stage<T, N>(static_cast<const T*>(a.qkv) + row * item.stride + column, item.stride, count, R, d, scale, queries,
                at.quads, lane, kWarp);
    stage<T, N>(static_cast<const T*>(a.grad_context) + row * item.context_stride + head * d, item.context_stride,
                count, R, d, 1.0f, grads, at.quads, lane, kWarp);
    __syncwarp(kWholeWarp);
    const float lse = lane < count ? global_load(a.lse + head * a.positions + row + lane) : 0.0f;
    float p[K][R], g[K][R], total[R];
#pragma unroll
    for (int r = 0; r < R; ++r) total[r] = 0;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int first = k * kWarp, key = first + lane;
      if (first >= reach) {
#pragma unroll
        for (int r = 0; r < R; ++r) p[k][r] = g[k][r] = 0;
        continue;
      }
      const uint32_t kept = kept_of_tile(a, mask, head, top, first, lane);
      products<R>(queries, at.quads, keys + smaller(key, length - 1) * at.stride, p[k]);
      products<R>(grads, at.quads, values + smaller(key, length - 1) * at.stride, g[k]);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const bool seen = key < (a.causal ? smaller(top + r + 1, length) : length);
        const float lse_of_row = __shfl_sync(kWholeWarp, lse, r), factor = factor_of(a, mask, kept, r, lane);
        p[k][r] = seen ? expf(p[k][r] - lse_of_row) : 0.0f;
        g[k][r] = seen ? g[k][r] * factor : 0.0f;
        total[r] += p[k][r] * g[k][r];
      }
    }
    float sum = 0;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      total[r] = sum_of_lanes(total[r], kWarp);
      if (lane == r) sum = total[r];
    }
    if (lane < count) {
      statistics[2 * (top + lane)] = lse;
      statistics[2 * (top + lane) + 1] = sum;
    }
    Part<R> grad_query = {};
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int first = k * kWarp;
      if (first >= reach) continue;
#pragma unroll
      for (int r = 0; r < R; ++r) p[k][r] *= g[k][r] - total[r];
      put<R>(p[k], weights, lane);
      __syncwarp(kWholeWarp);
      combine<R>(weights, keys + first * at.stride, at.stride, smaller(kWarp, reach - first), share, grad_query);
      __syncwarp(kWholeWarp);
    }
    write<T, N, R>(grad_query, scales, share, d, count, static_cast<T*>(a.grad_qkv) + row * item.stride + column,
                   item.stride);
  }
}

/// Adds to the gradients of a tile of keys and values, R from `top` on, what the queries of one head give them.
template <int R>
__device__ void key_gradients(const AttentionArgs& a, const Layout& at, const Item& item, const Mask& mask,
                              int64_t head, int top, const Quad* queries, const Quad* grads, Quad* tile,
                              const float* statistics, Part<R>& grad_key, Part<R>& grad_value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, length = static_cast<int>(item.length);
  const Quad* const keys = tile;
  const Quad* const values = keys + R * at.quads;
  Quad* const key_weights = tile + 2 * R * at.quads;
  Quad* const value_weights = key_weights + kWarp * R / 4;
  const Share share = share_of(at, lane);
  for (int first = a.causal ? top / kWarp * kWarp : 0; first < length; first += kWarp) {
    const int query = first + lane, near = smaller(query, length - 1);
    // A tile lies in one block of eight keys.
    const uint32_t kept = mask.drops ? kept_keys(a, mask, head, query, top / 8) >> top % 8 : 0;
    const float lse = statistics[2 * near], sum = statistics[2 * near + 1];
    float p[R], g[R];
    products<R>(keys, at.quads, queries + near * at.stride, p);
    products<R>(values, at.quads, grads + near * at.stride, g);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const bool seen = query < length && (!a.causal || top + r <= query);
      const float factor = !mask.drops ? 1.0f : kept >> r & 1u ? a.dropout.scale : 0.0f;
      const float probability = seen ? expf(p[r] - lse) : 0.0f;
      p[r] = probability * factor;
      g[r] = probability * (g[r] * factor - sum);
    }
    put<R>(g, key_weights, lane);
    put<R>(p, value_weights, lane);
    __syncwarp(kWholeWarp);
    const int count = smaller(kWarp, length - first);
    combine<R>(key_weights, queries + first * at.stride, at.stride, count, share, grad_key);
    combine<R>(value_weights, grads + first * at.stride, at.stride, count, share, grad_value);
    __syncwarp(kWholeWarp);
  }
}

template <class T, int N, int R, int K>
__global__ void backward_kernel(AttentionArgs a, Layout at) {
  VIXEN_DYNAMIC_SHARED(shared);
  const Item item = item_of(a);
  if (item.length == 0) return;
  const int me = static_cast<int>(threadIdx.x), lane = me % kWarp, warp = me / kWarp, threads = at.warps * kWarp;
  const int length = static_cast<int>(item.length), d = static_cast<int>(a.head_dim);
  // Keys and values, then the queries of a head and the gradients of what they gave.
  Quad* const left = reinterpret_cast<Quad*>(shared);
  Quad* const right = left + at.longest * at.stride;
  Quad* const tiles = right + at.longest * at.stride;
  Quad* const tile = tiles + warp * at.warp_quads;
  float* const statistics = reinterpret_cast<float*>(tiles + at.warps * at.warp_quads);  // [G, longest, 2]
  const T* const qkv = static_cast<const T*>(a.qkv) + item.first * item.stride;
  const Mask mask = mask_of(a, item);
  stage<T, N>(qkv + item.key_column, item.stride, length, length, d, 1.0f, left, at.stride, me, threads);
  stage<T, N>(qkv + item.value_column, item.stride, length, length, d, 1.0f, right, at.stride, me, threads);
  __syncthreads();
  for (int member = 0; member < item.group; ++member)
    query_gradients<T, N, R, K>(a, at, item, mask, member, left, right, tile, statistics + 2 * member * at.longest);

  const Share share = share_of(at, lane);
  const float scale = 1.0f / sqrtf(static_cast<float>(d));
  float ones[R];
#pragma unroll
  for (int r = 0; r < R; ++r) ones[r] = 1;
  for (int round = 0; round < length; round += at.warps * R) {
    const int top = round + warp * R, count = smaller(R, length - top);  // none: the warp still comes to the barriers
    if (count > 0) {
      __syncwarp(kWholeWarp);
      stage<T, N>(qkv + top * item.stride + item.key_column, item.stride, count, R, d, 1.0f, tile, at.quads, lane,
                  kWarp);
      stage<T, N>(qkv + top * item.stride + item.value_column, item.stride, count, R, d, 1.0f, tile + R * at.quads,
                  at.quads, lane, kWarp);
      __syncwarp(kWholeWarp);
    }
    Part<R> grad_key = {}, grad_value = {};
    for (int member = 0; member < item.group; ++member) {
      const int64_t head = item.kv_head * item.group + member;
      if (round == 0 || item.group > 1) {
        __syncthreads();
        stage<T, N>(qkv + item.query_column + member * d, item.stride, length, length, d, scale, left, at.stride, me,
                    threads);
        stage<T, N>(static_cast<const T*>(a.grad_context) + item.first * item.context_stride + head * d,
                    item.context_stride, length, length, d, 1.0f, right, at.stride, me, threads);
        __syncthreads();
      }
      if (count > 0)
        key_gradients<R>(a, at, item, mask, head, top, left, right, tile, statistics + 2 * member * at.longest,
                         grad_key, grad_value);
    }
    if (count <= 0) continue;
    T* const to = static_cast<T*>(a.grad_qkv) + (item.first + top) * item.stride;
    write<T, N, R>(grad_key, ones, share, d, count, to + item.key_column, item.stride);
    write<T, N, R>(grad_value, ones, share, d, count, to + item.value_column, item.stride);
  }
}

/// Rows of a warp's tile, and most chunks of 32 keys that it meets.
template <int R, int K>
struct Tile {
  static constexpr int kRows = R, kChunks = K;
};
/// Sequences of a label's three vectors leave most of a tile of eight empty; above 32 positions a tile's probabilities
/// and their gradients are for up to four keys a lane, above 128 for up to eight.
template <class Run>
int with_tile(int64_t longest, Run run) {
  if (longest <= 4) return run(Tile<4, 1>{});
  if (longest <= kWarp) return run(Tile<8, 1>{});
  return longest <= 4 * kWarp ? run(Tile<4, 4>{}) : run(Tile<4, 8>{});
}

bool taken(const AttentionArgs& a) {
  const int64_t sharing = a.heads / a.kv_heads;
  return a.max_seqlen <= kShortPositions && a.head_dim <= kShortColumns && sharing * a.max_seqlen <= kShortQueries &&
         short_attention_shared_bytes(a.head_dim, a.max_seqlen, sharing) <= kMostSharedBytes;
}

}  // namespace

int cuda::attention_forward(const AttentionArgs& a, int64_t items, CUstream_st* stream) {
  if (!taken(a)) return kRefused;
  return with_form(a.storage, a.head_dim, aligned({a.qkv, a.context}), [&](auto form) {
    using F = decltype(form);
    const auto run = [&](auto rows) {
      constexpr int kRows = decltype(rows)::kRows;
      const Layout at = layout_of(a, kRows, /*matrices=*/1, /*statistics=*/0);
      return launch(forward_kernel<typename F::T, F::kLanes, kRows>, items, at.warps * kWarp,
                    static_cast<size_t>(bytes_of(at)), stream, a, at);
    };
    return a.max_seqlen <= 4 ? run(Tile<4, 1>{}) : run(Tile<8, 1>{});
  });
}

int cuda::attention_backward(const AttentionArgs& a, int64_t items, CUstream_st* stream) {
  if (!taken(a)) return kRefused;
  const bool vectors = aligned({a.qkv, a.grad_context, a.grad_qkv});
  const int64_t statistics = 2 * a.heads / a.kv_heads * a.max_seqlen;
  return with_form(a.storage, a.head_dim, vectors, [&](auto form) {
    using F = decltype(form);
    return with_tile(a.max_seqlen, [&](auto tile) {
      using Of = decltype(tile);
      const Layout at = layout_of(a, Of::kRows, /*matrices=*/2, statistics);
      return launch(backward_kernel<typename F::T, F::kLanes, Of::kRows, Of::kChunks>, items, at.warps * kWarp,
                    static_cast<size_t>(bytes_of(at)), stream, a, at);
    });
  });
}

}  // namespace vixen
