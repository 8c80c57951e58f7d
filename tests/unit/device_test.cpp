// Threads, memory and the choice of a device, on machines with and without a GPU.
#include "device/device.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <omp.h>
#include <sched.h>

#include <algorithm>

#include "fixtures/fault.hpp"

namespace vixen {
namespace {

int allowed_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  EXPECT_EQ(sched_getaffinity(0, sizeof(mask), &mask), 0);
  return CPU_COUNT(&mask);
}

TEST(SetThreads, TakesWhatIsAskedOrSharesTheCores) {
  EXPECT_EQ(set_threads(3, 8), 3);
  EXPECT_EQ(at::get_num_threads(), 3);
  EXPECT_EQ(omp_get_max_threads(), 3);
  const int cores = allowed_cores();
  EXPECT_EQ(set_threads(0, 1), cores);
  EXPECT_EQ(set_threads(0, 2), std::max(1, cores / 2));
  EXPECT_EQ(set_threads(0, 100'000), 1);
  EXPECT_THROW(set_threads(-1, 1), BugError);
}

TEST(SetThreads, FollowsTheMaskOfTheProcess) {
  cpu_set_t before, one;
  CPU_ZERO(&before);
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  CPU_ZERO(&one);
  for (int core = 0; core < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++core) {
    if (CPU_ISSET(core, &before)) CPU_SET(core, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(set_threads(0, 1), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

TEST(MemoryUse, SeesAnAllocationAndRemembersThePeak) {
  constexpr int64_t kBytes = 64 << 20;
  const auto before = memory_use(at::kCPU);
  EXPECT_GT(before.current_bytes, 1 << 20);
  {
    const auto tensor = at::ones({kBytes / 4});
    EXPECT_GE(memory_use(at::kCPU).current_bytes, before.current_bytes + kBytes * 9 / 10);
    EXPECT_EQ(tensor.nbytes(), static_cast<size_t>(kBytes));
  }
  EXPECT_GE(memory_use(at::kCPU).peak_bytes, before.current_bytes + kBytes * 9 / 10);
}

TEST(SelectDevice, TakesCpuAndNamesWhatItCannotTake) {
  EXPECT_EQ(select_device("cpu", 5), at::Device(at::kCPU));
  EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
  EXPECT_THROW(select_device("gpu", 0), UserError);
  // One more than there are: also the case of a machine or a build without any.
  const std::string message = test::fault_of([] { select_device("cuda", gpu_count()); });
  EXPECT_EQ(message.find("device = cuda: "), 0u) << message;
}

TEST(SelectDevice, MakesAGpuCurrentWithStrictNumerics) {
  if (gpu_count() == 0) return;  // the case above is all there is to test
  EXPECT_EQ(select_device("cuda", 0), at::Device(at::kCUDA, 0));
  EXPECT_FALSE(at::globalContext().allowTF32CuBLAS());
  const auto tensor = at::ones({1 << 20}, at::device(at::kCUDA));
  EXPECT_GE(memory_use(tensor.device()).current_bytes, 4 << 20);
  EXPECT_GE(memory_use(tensor.device()).peak_bytes, 4 << 20);
}

}  // namespace
}  // namespace vixen
