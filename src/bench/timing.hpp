// Clocks of the benches.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace vixen {

/// Median seconds of `work`, which returns what it made, repeated for about half a second after one call to warm up.
double median_seconds(const std::function<at::Tensor()>& work);

/// Shortest microseconds of `work` on a device, of `repeats` runs after one to warm up: what others on the machine add
/// is not ours. On another device than the CPU a run is twenty calls in a row, so that it has no gaps between them.
double shortest_us(at::Device device, int repeats, const std::function<void()>& work);

}  // namespace vixen
