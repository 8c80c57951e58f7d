// Clocks of the benches.
#include "bench/timing.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/lap.hpp"
#include "device/transfer.hpp"

namespace vixen {

double median_seconds(const std::function<at::Tensor()>& work) {
  settle(work());
  std::vector<double> seconds;
  const Lap all;
  while (seconds.size() < 3 || (all.total() < 0.5 && seconds.size() < 200)) {
    const Lap one;
    settle(work());
    seconds.push_back(one.total());
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2];
}

double shortest_us(at::Device device, int repeats, const std::function<void()>& work) {
  const int calls = device.is_cpu() ? 1 : 20;
  const at::Tensor last = at::zeros({1}, at::TensorOptions().device(device));
  work();
  settle(last);
  return 1e6 / calls * fastest_seconds(repeats, [&] {
           for (int call = 0; call < calls; ++call) work();
           settle(last);  // behind all of them
         });
}

}  // namespace vixen
