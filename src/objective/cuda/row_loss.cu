// The objective's rows on CUDA: a block a row of scores finds the hardest negatives and makes losses and slopes of
// them; entries of sparse gradients, a thread each.
//   R rows, C columns, K negatives, P threads of a block
//   hardest_negatives  bytes R (5 C + 5 K (C / P + 1) + 9 K): scores and mask once; for each negative the share of the
//                      thread that had it once more, from the cache        FLOPs 2 R (C + K (C / P + P))
//   row_losses         the same without the K bytes of valid; R (4 K + 8) of slopes and values, and 12 R P of the
//                      positive and its score, from the cache              FLOPs 20 R K more
//   add_entries        bytes 20 R k                                                          FLOPs R k
//   Each thread knows the best of its own columns, every P-th; the best of these is the row's next negative, and who
//   had it looks for its next one among its own. So a row is read once, however many negatives it has, and equal scores
//   go to the lower column.
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vectors.cuh"
#include "objective/cuda/launchers.hpp"

namespace vixen {
namespace {

/// A score and its column: before those that are lower, or equal and further on.
struct Candidate {
  float score;
  int32_t column;
};
constexpr int32_t kNoColumn = 0x7fffffff;
constexpr float kLowest = -3.0e38f;

__device__ inline bool is_before(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.column < b.column);
}

/// The first of this thread's columns that comes behind `last`.
__device__ inline Candidate next_of_own(const HardestArgs& a, int64_t row, const Candidate& last) {
  const float* const scores = a.scores + row * a.width;
  const bool* const mask = a.mask + row * a.width;
  Candidate best = {kLowest, kNoColumn};
#pragma unroll 4
  for (int64_t c = threadIdx.x; c < a.width; c += blockDim.x) {
    const Candidate here = {global_load(mask + c) ? a.masked : global_load(scores + c), static_cast<int32_t>(c)};
    if (is_before(last, here) && is_before(here, best)) best = here;
  }
  return best;
}

__device__ inline Candidate first_of_block(Candidate best) {
  VIXEN_SHARED(float, scores, kRowThreads / kWarp);
  VIXEN_SHARED(int32_t, columns, kRowThreads / kWarp);
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    const Candidate other = {__shfl_xor_sync(kWholeWarp, best.score, apart),
                             __shfl_xor_sync(kWholeWarp, best.column, apart)};
    if (is_before(other, best)) best = other;
  }
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
  if (threadIdx.x % kWarp == 0) {
    scores[warp] = best.score;
    columns[warp] = best.column;
  }
  __syncthreads();
  best = {scores[0], columns[0]};
  for (int w = 1; w < warps; ++w) {
    const Candidate other = {scores[w], columns[w]};
    if (is_before(other, best)) best = other;
  }
  __syncthreads();  // the next call writes them anew
  return best;
}

/// found(j, candidate) for the K hardest in their order, by all threads.
template <class Found>
__device__ void for_hardest(const HardestArgs& a, int64_t row, Found found) {
  Candidate own = next_of_own(a, row, {3.0e38f, -1});
  for (int64_t j = 0; j < a.k; ++j) {
    const Candidate first = first_of_block(own);
    found(j, first);
    if (first.column == own.column) own = next_of_own(a, row, first);
  }
}

__global__ void hardest_negatives_kernel(HardestArgs a) {
  const int64_t row = blockIdx.x;
  for_hardest(a, row, [&](int64_t j, const Candidate& negative) {
    if (threadIdx.x != 0) return;
    // Where NaNs leave too few columns the last ones are no negatives.
    const bool none = negative.column == kNoColumn;
    global_store(a.columns + row * a.k + j, none ? a.width - 1 : static_cast<int64_t>(negative.column));
    global_store(a.valid + row * a.k + j, !none && negative.score > a.masked / 2);
  });
}

__global__ void row_losses_kernel(RowLossArgs a) {
  VIXEN_SHARED(float, logits, kMostNegatives);
  VIXEN_SHARED(float, losses, kMostNegatives);
  VIXEN_SHARED(float, sloped, kMostNegatives);  // weight times the slope of its hinge
  const int64_t row = blockIdx.x, k = a.hardest.k;
  const int me = static_cast<int>(threadIdx.x);
  const int64_t positive = global_load(a.positive + row);
  const bool counts = positive >= 0;
  const float s_p = global_load(a.hardest.scores + row * a.hardest.width + (counts ? positive : 0));

  // Thread j keeps negative j; K is at most a block's largest size, and blocks have at least K threads.
  Candidate negative = {kLowest, kNoColumn};
  for_hardest(a.hardest, row, [&](int64_t j, const Candidate& found) {
    if (me == j) negative = found;
  });
  const bool known = negative.column != kNoColumn;
  const bool valid = me < k && known && counts && negative.score > a.hardest.masked / 2;
  const float s_n = negative.score, apart = fabsf(s_p - s_n);
  const float margin = apart < a.margin_min ? a.margin_min : (apart > a.margin_max ? a.margin_max : apart);
  const float violation = s_n - s_p + margin;
  // A NaN stays one.
  const float loss = valid ? (violation < 0 ? 0.0f : violation) : 0.0f;
  const bool active = loss > 0;
  if (me < k) {
    // Satisfied slots are pushed out of the softmax together; where all are, the weights are uniform over the valid
    // ones.
    logits[me] = valid ? (active ? s_n : -50.0f) / a.temperature : a.hardest.masked;
    losses[me] = loss;
  }
  __syncthreads();
  float most = logits[0];
  for (int j = 1; j < k; ++j) most = most < logits[j] ? logits[j] : most;
  __syncthreads();
  const float power = me < k ? expf(logits[me] - most) : 0.0f;
  if (me < k) logits[me] = power;
  __syncthreads();
  float total = 0, value = 0;
  for (int j = 0; j < k; ++j) total += logits[j];
  for (int j = 0; j < k; ++j) value += logits[j] / total * losses[j];
  const float weight = valid ? power / total : 0.0f;
  const float slope = violation > 0 ? 1.0f : (violation == 0 ? a.tie : 0.0f);
  const float direct = weight * slope, through = active ? weight * (loss - value) / a.temperature : 0.0f;
  if (me < k) {
    sloped[me] = direct;
    global_store(a.hardest.columns + row * k + me, known ? static_cast<int64_t>(negative.column) : a.hardest.width - 1);
    global_store(a.slopes + row * k + me, direct + through);
  }
  __syncthreads();
  if (me != 0) return;
  float sum = 0;
  for (int j = 0; j < k; ++j) sum += sloped[j];
  global_store(a.positive_slope + row, -sum);
  global_store(a.values + row, counts ? value + (s_p - s_p) : 0.0f);  // a NaN of the positive is one of the loss
}

__global__ void add_entries_kernel(AddEntriesArgs a, int64_t count) {
  const int64_t index = element_index();
  if (index >= count) return;
  const int64_t row = place_of(index, a.k).row;
  float* const target = a.target + row * a.row_stride + global_load(a.columns + index) * a.column_stride;
  global_store(target, global_load(target) + global_load(a.values + index));
}

/// Threads of a block for rows of C columns with K negatives: one for each negative at least.
int threads_for(int64_t width, int64_t k) {
  return row_threads(k > (width + 3) / 4 ? k : (width + 3) / 4);
}

}  // namespace

int cuda::hardest_negatives(const HardestArgs& a, int64_t rows, CUstream_st* stream) {
  return launch(hardest_negatives_kernel, rows, threads_for(a.width, a.k), 0, stream, a);
}

int cuda::row_losses(const RowLossArgs& a, int64_t rows, CUstream_st* stream) {
  return launch(row_losses_kernel, rows, threads_for(a.hardest.width, a.hardest.k), 0, stream, a);
}

int cuda::add_entries(const AddEntriesArgs& a, int64_t rows, CUstream_st* stream) {
  const int64_t count = rows * a.k;
  return launch(add_entries_kernel, element_blocks(count), kElementThreads, 0, stream, a, count);
}

}  // namespace vixen
