// The table of 2-means' kernels for devices: a table of its own, as the CPU has no form of them but the loops of
// two_means_arithmetic.hpp, which whole subtrees share.
#pragma once

#include "cluster/device_arguments.hpp"
#include "kernels/table.hpp"

namespace vixen {

// The rows: name, arguments, and what an item is.
#define VIXEN_CLUSTER_KERNELS(row)                       \
  row(unit_rows, UnitRowsArgs)       /* row */           \
      row(row_scores, RowScoresArgs) /* row of a list */ \
      row(row_sums, RowSumsArgs)     /* piece of a list */

/// The CUDA forms; null where there is none, and the reference runs.
struct ClusterTable {
#define VIXEN_MEMBER(name, Args) CudaFunction<Args> name = nullptr;
  VIXEN_CLUSTER_KERNELS(VIXEN_MEMBER)
#undef VIXEN_MEMBER
};

/// Those of this build: cuda/table.cpp, or no_cuda.cpp without CUDA, which has none.
const ClusterTable& cuda_cluster_kernels();

}  // namespace vixen
