// The search's CUDA kernels.
#include "search/cuda/launchers.hpp"

namespace vixen {

const SearchTable& cuda_search_kernels() {
  static constexpr SearchTable kTable{
      .filter_scores = cuda::filter_scores,
      .settle_candidates = cuda::settle_candidates,
      .canonical_dots = cuda::canonical_dots,
  };
  return kTable;
}

}  // namespace vixen
