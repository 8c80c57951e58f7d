#include "device/host_copies.hpp"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace vixen {

void HostMoment::wait() const {
  if (reached_) reached_->synchronize();
}

at::Tensor HostCopies::copy(const std::string& name, const at::Tensor& tensor) {
  at::Tensor& held = copies_[name];
  const bool from_device = !tensor.is_cpu();
  const bool fits = held.defined() && held.sizes() == tensor.sizes() && held.scalar_type() == tensor.scalar_type();
  if (!fits) {
    held = at::Tensor();  // given back before more is taken
    held = at::empty(tensor.sizes(), at::dtype(tensor.scalar_type()).pinned_memory(from_device));
  }
  held.copy_(tensor, /*non_blocking=*/from_device);
  return held;
}

HostMoment HostCopies::mark() const {
  if (device_.is_cpu()) return {};
  const c10::impl::VirtualGuardImpl device(device_.type());
  auto reached = std::make_shared<c10::Event>(device_.type());
  reached->record(device.getStream(device_));
  return HostMoment(std::move(reached));
}

int64_t HostCopies::bytes() const {
  int64_t sum = 0;
  for (const auto& [name, tensor] : copies_) sum += static_cast<int64_t>(tensor.nbytes());
  return sum;
}

}  // namespace vixen
