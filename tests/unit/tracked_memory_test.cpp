// The counters of CPU tensors: what is alive, the peak, tensors made before and on other threads.
#include "device/tracked_memory.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>
#include <vector>

#include "device/device.hpp"

namespace vixen {
namespace {

constexpr int64_t kBytes = 8 << 20;
constexpr int64_t kRounding = 64 << 10;  // pages and headers of the C library

TEST(TrackedMemory, CountsWhatIsAliveAndThePeak) {
  const auto before = at::ones({kBytes / 4});  // counted by nobody
  track_tensor_memory();
  track_tensor_memory();
  const int64_t start = tensor_bytes();
  reset_peak_tensor_bytes();
  {
    auto a = at::ones({kBytes / 4});
    EXPECT_NEAR(static_cast<double>(tensor_bytes() - start), kBytes, kRounding);
    const auto view = a.narrow(0, 10, 100);
    { const auto b = at::empty({kBytes}, at::kByte); }
    EXPECT_NEAR(static_cast<double>(tensor_bytes() - start), kBytes, kRounding);
    EXPECT_NEAR(static_cast<double>(peak_tensor_bytes() - start), 2 * kBytes, kRounding);
    a.reset();
    EXPECT_NEAR(static_cast<double>(tensor_bytes() - start), kBytes, kRounding) << "the view keeps it";
  }
  EXPECT_EQ(tensor_bytes(), start);
  reset_peak_tensor_bytes();
  EXPECT_EQ(peak_tensor_bytes(), start);
  EXPECT_EQ(memory_use(at::kCPU).peak_tensor_bytes, start);
}

TEST(TrackedMemory, ForgetsTensorsMadeBefore) {
  track_tensor_memory();
  const int64_t start = tensor_bytes();
  auto foreign = at::from_blob(
      std::malloc(kBytes), {kBytes}, [](void* data) { std::free(data); }, at::kByte);
  EXPECT_EQ(tensor_bytes(), start);
  foreign.reset();
  EXPECT_EQ(tensor_bytes(), start);
}

TEST(TrackedMemory, CountsOnEveryThread) {
  track_tensor_memory();
  const int64_t start = tensor_bytes();
  reset_peak_tensor_bytes();
  std::vector<std::thread> threads(4);
  for (auto& thread : threads)
    thread = std::thread([] {
      for (int round = 0; round < 500; ++round) EXPECT_EQ(at::ones({1000 + round}).numel(), 1000 + round);
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(tensor_bytes(), start);
  EXPECT_GT(peak_tensor_bytes(), start);
}

}  // namespace
}  // namespace vixen
