// The k best of each query's candidates on CUDA: a block a query. Drops what the bounds can drop, gives the rest their
// canonical scores and keeps the k best in the total order, with exact scores, in the order in which they came.
//   m queries, j >= k candidates of one, of which r survive the bounds; s bytes a number of a row; b and c bits in
//   which the lower bounds of the j differ, and scores and labels of the r. Bytes asked for, a query: loaded 4 (1 + b)
//   j + 12 j by the bounds, r (s D + 4 D + 64) for the scores and 8 (1 + c) r + 12 r for the choice, 3,072 by the
//   threads; stored 20 r + 12 k + 12. All but the rows, s D r, come from the caches. FLOPs 2 D r, float64.
#include "search/cuda/candidates.cuh"
#include "search/cuda/launchers.hpp"

namespace vixen {
namespace {

template <class T>
__global__ void __launch_bounds__(kRowThreads) settle_candidates_kernel(CandidateArgs a) {
  const int64_t query = blockIdx.x;
  Own own = candidates_of(a, query);
  compact_by_bounds(a, own);
  compact_exactly<T>(a, query, own);
  put_back(a, query, own);
}

}  // namespace

int cuda::settle_candidates(const CandidateArgs& a, int64_t queries, CUstream_st* stream) {
  return with_rows(a.rows.storage, [&](auto row) {
    return launch(settle_candidates_kernel<decltype(row)>, queries, kRowThreads, 0, stream, a);
  });
}

}  // namespace vixen
