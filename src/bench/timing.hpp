// Clocks of the benches.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace vixen {

/// Median seconds of `work`, which returns what it made, repeated for about half a second after one call to warm up.
double median_seconds(const std::function<at::Tensor()>& work);

/// Shortest microseconds of `work` on the CPU, of `repeats` runs after one to warm up: what others on the machine add
/// is not ours.
double shortest_us(int repeats, const std::function<void()>& work);

}  // namespace vixen
