// The table of the objective's kernels for devices: a table of its own, as CPUs, whose batches are small, have no form
// of them but the references.
#pragma once

#include "kernels/table.hpp"
#include "objective/device_arguments.hpp"

namespace vixen {

// The rows: name, arguments, and what an item is.
#define VIXEN_OBJECTIVE_KERNELS(row)                       \
  row(hardest_negatives, HardestArgs)  /* row of scores */ \
      row(row_losses, RowLossArgs)     /* row of scores */ \
      row(add_entries, AddEntriesArgs) /* row of scores */

/// The CUDA forms; null where there is none, and the reference runs.
struct ObjectiveTable {
#define VIXEN_MEMBER(name, Args) CudaFunction<Args> name = nullptr;
  VIXEN_OBJECTIVE_KERNELS(VIXEN_MEMBER)
#undef VIXEN_MEMBER
};

/// Those of this build: cuda/table.cpp, or no_cuda.cpp without CUDA, which has none.
const ObjectiveTable& cuda_objective_kernels();

}  // namespace vixen
