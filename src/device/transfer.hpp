// Copies from the host to the device that numerics run on, and the wait for it.
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

/// `host` on `device`; the same tensor where that is a CPU. Else by way of pinned memory, behind what the current
/// stream has to do: the host does not wait, and `host` may be dropped at once.
at::Tensor to_device(const at::Tensor& host, at::Device device);

/// Waits until the device has made `tensor`: for clocks, never within a step. A CPU tensor, or an undefined one, is
/// there already.
void settle(const at::Tensor& tensor);

}  // namespace vixen
