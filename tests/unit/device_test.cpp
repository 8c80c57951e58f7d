// Threads, memory and the choice of a device, on machines with and without a GPU.
#include "device/device.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <future>
#include <thread>

#include "device/cpu_affinity.hpp"
#include "fixtures/fault.hpp"

namespace vixen {
namespace {

TEST(SetThreads, SetsOpenMpAndAten) {
  for (const int threads : {3, 1}) {
    set_threads(threads);
    EXPECT_EQ(at::get_num_threads(), threads);
    EXPECT_EQ(omp_get_max_threads(), threads);
  }
  EXPECT_THROW(set_threads(0), BugError);
}

TEST(CpuAffinity, ConfinesThreadsThatRunAndThoseToCome) {
  const auto before = allowed_cpus(0);
  ASSERT_FALSE(before.empty());
  const std::vector<int> one = {before.back()};
  std::promise<void> confined;
  std::promise<std::vector<int>> seen;
  std::thread running([&] {
    confined.get_future().wait();
    seen.set_value(allowed_cpus(0));
  });
  EXPECT_TRUE(confine_to(one));
  confined.set_value();
  EXPECT_EQ(seen.get_future().get(), one);
  running.join();
  std::vector<int> later;
  std::thread([&] { later = allowed_cpus(0); }).join();
  EXPECT_EQ(later, one);
  EXPECT_TRUE(confine_to(before));  // wider again
  EXPECT_EQ(allowed_cpus(0), before);
  EXPECT_FALSE(confine_to({}));
  EXPECT_FALSE(confine_to({1 << 19}));  // no machine has it
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
  EXPECT_EQ(select_device(DeviceKind::kCpu, 5), at::Device(at::kCPU));
  EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
  // One more than there are: also the case of a machine or a build without any.
  const std::string message = test::fault_of([] { select_device(DeviceKind::kCuda, gpu_count()); });
  EXPECT_EQ(message.find("device = cuda: "), 0u) << message;
}

TEST(SelectDevice, MakesAGpuCurrentWithStrictNumerics) {
  if (gpu_count() == 0) return;  // the case above is all there is to test
  EXPECT_EQ(select_device(DeviceKind::kCuda, 0), at::Device(at::kCUDA, 0));
  EXPECT_FALSE(at::globalContext().allowTF32CuBLAS());
  const auto tensor = at::ones({1 << 20}, at::device(at::kCUDA));
  EXPECT_GE(memory_use(tensor.device()).current_bytes, 4 << 20);
  EXPECT_GE(memory_use(tensor.device()).peak_bytes, 4 << 20);
}

}  // namespace
}  // namespace vixen
