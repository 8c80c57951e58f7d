// What `vixen bench` times on a device: every operand is there, and every kernel takes its time.
#include <gtest/gtest.h>

#include "bench/kernel_bench.hpp"
#include "pretend/pretend_device.hpp"
#include "pretend/reference_kernels.hpp"

namespace vixen::pretend {
namespace {

TEST(PretendBench, KernelsRunOnTheDevice) {
  use_reference_kernels();
  const auto on = device();
  take_faults();
  const auto timings = bench_kernels(on, /*positions=*/120, /*width=*/24, /*feed_forward=*/48, /*heads=*/3, at::kFloat);
  EXPECT_EQ(timings.size(), bench_kernels(at::kCPU, 120, 24, 48, 3, at::kFloat).size());
  for (const KernelTiming& timing : timings) {
    EXPECT_GT(timing.microseconds, 0) << timing.name;
    EXPECT_GT(timing.gb_per_s, 0) << timing.name;
    EXPECT_GT(timing.reference_microseconds, 0) << timing.name;
  }
  EXPECT_EQ(text_of(take_faults()), "");
}

}  // namespace
}  // namespace vixen::pretend
