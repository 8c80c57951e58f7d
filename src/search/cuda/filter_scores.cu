// The threshold filter of the exact search on CUDA: a block a query looks at its scores of a tile of labels and appends
// those that may be among the k best. First, where too many candidates have gathered, it makes room for a whole tile.
//   m queries, c labels of a tile. Bytes asked for where nothing is appended or compacted: 2 m c for the scores, out of
//   the L2 cache, where the product has just left them; one bound of 8 bytes for 256 scores, asked for by each lane
//   that has some of them: m c; and 24 m for each of the 256 threads, from L1. An appended label: 12 bytes written and
//   10 + 8 read. FLOPs 2 m c: a comparison and the threshold of a group.
#include "search/cuda/candidates.cuh"
#include "search/cuda/launchers.hpp"

namespace vixen {
namespace {

constexpr int kLanes = 8;                                             // scores of a vector
constexpr int kVectors = 4;                                           // of a lane, in flight together
constexpr int64_t kWarpColumns = int64_t{kWarp} * kLanes * kVectors;  // 1,024
constexpr int64_t kRoundColumns = kWarpColumns * kRowWarps;           // 8,192
static_assert(kWarp * kLanes == kGroupLabels, "the vectors that a warp reads together are a group's");

__device__ inline float error_of(const BoundWeights& weights, const LabelBound* bound) {
  const Floats<2> read = load<2>(&bound->norm);
  return weights.norm * read.at[0] + (weights.residual * read.at[1] + weights.constant);
}

/// The largest bfloat16 number that is not above x: a score whose rounding lies below it lies below x.
__device__ inline float round_down_to_bfloat16(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t cut = bits & 0xffff0000u;                                 // towards zero
  return float_of(x < 0 && (bits & 0xffffu) != 0 ? cut + 0x10000u : cut);  // away from zero
}

/// What a score must reach for its label's upper bound to reach the threshold; a little less, for roundings.
__device__ inline float needed(float threshold, float error) {
  return round_down_to_bfloat16(threshold - error - fabsf(threshold) * 0x1p-21f - error * 0x1p-21f);
}

/// Four counts of 16 bits in one number: how many bits each byte of `mask` has.
__device__ inline uint64_t counts_of(uint32_t mask) {
  uint64_t counts = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) counts |= static_cast<uint64_t>(__popc(mask >> v * kLanes & 0xffu)) << 16 * v;
  return counts;
}

template <class T>
__global__ void __launch_bounds__(kRowThreads) filter_scores_kernel(FilterArgs a) {
  const int64_t query = blockIdx.x;
  Own own = candidates_of(a.candidates, query);
  const float* const of_query = &a.weights[query].norm;
  const BoundWeights weights = {global_load(of_query), global_load(of_query + 1), global_load(of_query + 2)};
  const bool too_many = own.count > a.limit;
  if (too_many) {
    compact_by_bounds(a.candidates, own);
    // Bounds cannot tell them apart: many labels are equal, or nearly.
    if (own.count > a.limit) compact_exactly<T>(a.candidates, query, own);
  }
  const int before = own.count;
  const Bfloat16* const scores = static_cast<const Bfloat16*>(a.scores) + query * a.stride;

  for (int64_t round = 0; round < a.columns; round += kRoundColumns) {
    const int64_t begin = round + own_warp() * kWarpColumns + own_lane() * kLanes;
    uint32_t mask = 0;  // bit v * 8 + e: column begin + v * 256 + e stays
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int64_t column = begin + v * kGroupLabels;
      if (column >= a.columns) continue;
      const Vector<Bfloat16, kLanes> some = load_vector<kLanes>(scores + column);
      const float least =
          needed(own.threshold, error_of(weights, a.group_bounds + (a.first_label + column) / kGroupLabels));
#pragma unroll
      for (int e = 0; e < kLanes; ++e)
        if (column + e < a.columns && to_float(some.at[e]) >= least) mask |= 1u << (v * kLanes + e);
    }
    const auto column_of = [&](int bit) { return begin + bit / kLanes * kGroupLabels + bit % kLanes; };
    // Few come to here; each is held to its own label's bound.
    for (int bit = 0; bit < kLanes * kVectors && mask >> bit != 0; ++bit) {
      if (!(mask >> bit & 1u)) continue;
      const int64_t column = column_of(bit);
      const float least = needed(own.threshold, error_of(weights, a.bounds + a.first_label + column));
      if (to_float(global_load(scores + column)) < least) mask &= ~(1u << bit);
    }
    // Places in the order of columns: by warp, by vector, by lane.
    uint64_t totals = 0, up_to = 0;
    if (__ballot_sync(kWholeWarp, mask != 0)) {
      up_to = sum_up_to_lane(counts_of(mask));
      totals = __shfl_sync(kWholeWarp, up_to, kWarp - 1);
    }
    int in_warp = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) in_warp += static_cast<int>(totals >> 16 * v & 0xffffu);
    const Rank rank = rank_of_warp(in_warp);
    int first = own.count + rank.before;
    const uint64_t own_counts = counts_of(mask);
    for (int v = 0; v < kVectors; ++v) {
      int to = first + static_cast<int>((up_to - own_counts) >> 16 * v & 0xffffu);
      for (int bit = v * kLanes; bit < (v + 1) * kLanes; ++bit) {
        if (!(mask >> bit & 1u)) continue;
        const int64_t column = column_of(bit);
        const float score = to_float(global_load(scores + column));
        const float error = error_of(weights, a.bounds + a.first_label + column) + fabsf(score) * a.relative;
        global_store(own.label + to, static_cast<int32_t>(a.first_label + column));
        global_store(own.lower + to, score - error);
        global_store(own.upper + to, score + error);
        ++to;
      }
      first += static_cast<int>(totals >> 16 * v & 0xffffu);
    }
    own.count += rank.total;
  }
  if (too_many || own.count != before) put_back(a.candidates, query, own);
}

}  // namespace

int cuda::filter_scores(const FilterArgs& a, int64_t queries, CUstream_st* stream) {
  return with_rows(a.candidates.rows.storage, [&](auto row) {
    return launch(filter_scores_kernel<decltype(row)>, queries, kRowThreads, 0, stream, a);
  });
}

}  // namespace vixen
