// Clocks of the benches.
#include "bench/timing.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace vixen {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

void settle(const at::Tensor& tensor) {
  if (tensor.defined() && tensor.is_cuda()) tensor.flatten().narrow(0, 0, 1).cpu();
}

double median_seconds(const std::function<at::Tensor()>& work) {
  settle(work());
  std::vector<double> seconds;
  const auto start = Clock::now();
  while (seconds.size() < 3 || (seconds_since(start) < 0.5 && seconds.size() < 200)) {
    const auto before = Clock::now();
    settle(work());
    seconds.push_back(seconds_since(before));
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2];
}

double shortest_us(int repeats, const std::function<void()>& work) {
  work();
  double shortest = 1e300;
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    work();
    shortest = std::min(shortest, seconds_since(start) * 1e6);
  }
  return shortest;
}

}  // namespace vixen
