// A build without CUDA: there is no GPU.
#include "base/check.hpp"
#include "device/device_cuda.hpp"

namespace vixen::detail {

void select_gpu(int local_rank) {
  fail_user(
      "device = cuda: this build has no CUDA (rank {} of the node): build with -DVIXEN_CUDA=ON, or use --device cpu",
      local_rank);
}

int count_gpus() {
  return 0;
}

std::string gpu_bus_id(int /*index*/) {
  return {};
}

}  // namespace vixen::detail
