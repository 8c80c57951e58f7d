#include "device/transfer.hpp"

#include <ATen/ATen.h>

namespace vixen {

at::Tensor to_device(const at::Tensor& host, at::Device device) {
  if (device.is_cpu()) return host;
  const at::Tensor source = host.is_pinned() ? host : host.pin_memory();
  return source.to(device, /*non_blocking=*/true);
}

void settle(const at::Tensor& tensor) {
  if (tensor.defined() && !tensor.is_cpu() && tensor.numel() > 0) tensor.flatten().narrow(0, 0, 1).cpu();
}

}  // namespace vixen
