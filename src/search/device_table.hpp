// The table of the search's kernels for devices: a table of its own, not rows of kernels/table.hpp, as the CPU has no
// form of them but a search of its own (exact_search_cpu.hpp), made of other loops.
#pragma once

#include "kernels/table.hpp"
#include "search/device_arguments.hpp"

namespace vixen {

// The rows: name, arguments, and what an item is.
#define VIXEN_SEARCH_KERNELS(row)                                                           \
  row(filter_scores, FilterArgs)            /* query: appends what its threshold lets by */ \
      row(settle_candidates, CandidateArgs) /* query: the k best of its candidates */       \
      row(canonical_dots, CanonicalDotArgs) /* pair of rows */

/// The CUDA forms; null where there is none, and the reference runs.
struct SearchTable {
#define VIXEN_MEMBER(name, Args) CudaFunction<Args> name = nullptr;
  VIXEN_SEARCH_KERNELS(VIXEN_MEMBER)
#undef VIXEN_MEMBER
};

/// Those of this build: cuda/table.cpp, or no_cuda.cpp without CUDA, which has none.
const SearchTable& cuda_search_kernels();

}  // namespace vixen
