// Whose kernels run on a device that is no CPU.
#include "kernels/cuda_kernels.hpp"

namespace vixen {
namespace {

struct Lent {
  c10::DeviceType to = c10::DeviceType::CPU;  // nobody: a CPU has its own
  LentKernels kernels;
};

Lent& lent() {
  static Lent only;
  return only;
}

}  // namespace

void lend_kernels(c10::DeviceType type, const LentKernels& kernels) {
  lent() = {type, kernels};
}

bool has_lent_kernels(at::Device device) {
  return lent().kernels.launch != nullptr && device.type() == lent().to;
}

const CudaTable& device_kernels(at::Device device) {
  static constexpr CudaTable kNone{};
  if (has_lent_kernels(device)) return lent().kernels.table == nullptr ? kNone : *lent().kernels.table;
  return device.is_cuda() ? cuda_kernels() : kNone;
}

void launch_on_device(at::Device device, const char* kernel, const std::function<int(CUstream_st*)>& launch) {
  if (has_lent_kernels(device)) return lent().kernels.launch(kernel, launch);
  launch_on(device, kernel, launch);
}

}  // namespace vixen
