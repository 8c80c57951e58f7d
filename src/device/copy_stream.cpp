#include "device/copy_stream.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace vixen {

CopyStream::CopyStream(at::Device device) {
  if (device.is_cpu()) return;
  stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

Arrival CopyStream::mark() const {
  if (!stream_) return {};
  c10::Event reached(stream_->device_type());
  reached.record(*stream_);
  return Arrival(std::move(reached));
}

void Arrival::join(std::span<const at::Tensor> tensors) const {
  if (!reached_) return;
  const c10::impl::VirtualGuardImpl guard(reached_->device_type());
  const c10::Stream current = guard.getStream(reached_->device());
  reached_->block(current);
  for (const at::Tensor& tensor : tensors)
    if (tensor.defined() && !tensor.is_cpu()) tensor.record_stream(current);
}

}  // namespace vixen
