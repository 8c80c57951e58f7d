// Work that needs stacks of some MiB, under a limit of 256 KiB.
#include "base/stack.hpp"

#include <gtest/gtest.h>
#include <omp.h>
#include <sys/resource.h>

#include <cstdlib>
#include <thread>

namespace vixen {
namespace {

/// Touches 2 MiB of the calling thread's stack.
[[gnu::noinline]] int deep() {
  constexpr int kBytes = 2 << 20;
  volatile char block[kBytes];
  for (int i = 0; i < kBytes; i += 1024) block[i] = 1;
  return block[0];
}

int work() {
  int sum = deep();
  std::thread([&] { sum += deep(); }).join();
#pragma omp parallel for num_threads(2) reduction(+ : sum)
  for (int i = 0; i < 2; ++i) sum += deep();
  return sum;
}

int work_under_a_small_limit() {
  const rlimit limit = {256 << 10, 256 << 10};
  return setrlimit(RLIMIT_STACK, &limit) == 0 ? run_with_enough_stack(work) : 100;
}

TEST(EnoughStack, IsThereForThisThreadAndItsOwn) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // starts anew: no thread of OpenMP's is there yet
  EXPECT_EXIT(std::exit(work_under_a_small_limit()), ::testing::ExitedWithCode(4), "");
}

TEST(EnoughStack, ElsewhereTheBodyRunsHere) {
  const auto here = std::this_thread::get_id();
  EXPECT_EQ(run_with_enough_stack([&] { return std::this_thread::get_id() == here ? 5 : 6; }), 5);
}

}  // namespace
}  // namespace vixen
