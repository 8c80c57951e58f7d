// Device, threads, kernels.
#include "commands/numerics.hpp"

#include "device/device.hpp"
#include "kernels/choice.hpp"

namespace vixen {

at::Device set_numerics(const Config& config, int local_rank, int threads) {
  set_threads(threads);
  set_kernel_choices(config.kernels);
  return select_device(config.device, local_rank);
}

}  // namespace vixen
