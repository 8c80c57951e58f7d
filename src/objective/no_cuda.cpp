// A build without CUDA has none of its kernels.
#include "objective/device_table.hpp"

namespace vixen {

const ObjectiveTable& cuda_objective_kernels() {
  static constexpr ObjectiveTable kNone{};
  return kNone;
}

}  // namespace vixen
