// The objective's CUDA kernels.
#include "objective/cuda/launchers.hpp"

namespace vixen {

const ObjectiveTable& cuda_objective_kernels() {
  static constexpr ObjectiveTable kTable{
      .hardest_negatives = cuda::hardest_negatives,
      .row_losses = cuda::row_losses,
      .add_entries = cuda::add_entries,
  };
  return kTable;
}

}  // namespace vixen
