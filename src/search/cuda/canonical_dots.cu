// Canonical dot products of pairs of rows on CUDA: 16 lanes a pair.
//   a, b [m, D] float32, out [m]. Bytes 8 m D + 4 m; FLOPs 2 m D, float64.
#include "search/cuda/canonical.cuh"
#include "search/cuda/launchers.hpp"

namespace vixen {
namespace {

constexpr int kPairs = kElementThreads / kScoreLanes;  // of a block

__global__ void canonical_dots_kernel(CanonicalDotArgs a, int64_t pairs) {
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * kPairs + threadIdx.x / kScoreLanes;
  // Who has no pair stays for the sum of the warp.
  const int64_t row = pair < pairs ? pair : pairs - 1;
  const float score =
      canonical_score(a.a + row * a.width, a.b + row * a.width, /*divisor=*/nullptr, pair < pairs ? a.width : 0);
  if (pair < pairs && threadIdx.x % kScoreLanes == 0) global_store(a.out + pair, score);
}

}  // namespace

int cuda::canonical_dots(const CanonicalDotArgs& a, int64_t pairs, CUstream_st* stream) {
  return launch(canonical_dots_kernel, (pairs + kPairs - 1) / kPairs, kElementThreads, 0, stream, a, pairs);
}

}  // namespace vixen
