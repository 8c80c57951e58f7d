// The background producer: order, bound, exceptions, stopping, and its own threads.
#include <gtest/gtest.h>

#include <ATen/Parallel.h>
#include <omp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>

#include "data/prefetcher.hpp"

namespace vixen {
namespace {

using namespace std::chrono_literals;

TEST(Prefetcher, GivesEveryItemInOrder) {
  Prefetcher<int64_t> items([](int64_t i) { return i * i; }, 3, 1000, 4);
  for (int64_t i = 3; i < 1000; ++i) EXPECT_EQ(items.next(), i * i);
  EXPECT_THROW(items.next(), BugError);
}

TEST(Prefetcher, MovesItemsThatCannotBeCopied) {
  Prefetcher<std::unique_ptr<int>> items([](int64_t i) { return std::make_unique<int>(static_cast<int>(i)); }, 0, 5, 2);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(*items.next(), i);
}

TEST(Prefetcher, StaysWithinItsDepthAndRunsAhead) {
  std::atomic<int64_t> produced{0};
  Prefetcher<int64_t> items(
      [&](int64_t i) {
        ++produced;
        return i;
      },
      0, 100, 3);
  for (int64_t taken = 0; taken < 20; ++taken) {
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (produced < taken + 3 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(2ms);
    EXPECT_EQ(produced, taken + 3) << "ready ahead of item " << taken;
    EXPECT_EQ(items.next(), taken);
  }
}

TEST(Prefetcher, RethrowsAtTheItemThatFailed) {
  Prefetcher<int64_t> items(
      [](int64_t i) {
        if (i == 3) throw std::runtime_error("item three");
        return i;
      },
      0, 10, 8);
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(items.next(), i);
  for (int repeat = 0; repeat < 2; ++repeat) {
    try {
      items.next();
      FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "item three");
    }
  }
}

TEST(Prefetcher, DestructorStopsAFullQueueAndAFreshOne) {
  std::atomic<int64_t> produced{0};
  const auto start = std::chrono::steady_clock::now();
  for (int repeat = 0; repeat < 50; ++repeat) {
    Prefetcher<int64_t> items(
        [&](int64_t i) {
          ++produced;
          std::this_thread::sleep_for(1ms);
          return i;
        },
        0, 1'000'000, 2);
    if (repeat % 2) std::this_thread::sleep_for(5ms);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  EXPECT_LT(produced, 50 * 4);
}

TEST(Prefetcher, NothingToProduce) {
  Prefetcher<int64_t> items([](int64_t i) { return i; }, 5, 5, 1);
  EXPECT_THROW(items.next(), BugError);
}

TEST(Prefetcher, ItsThreadComputesAloneAndOthersKeepTheirs) {
  const int before = at::get_num_threads();
  Prefetcher<int> items(
      [](int64_t) {
        int threads = at::get_num_threads();
#pragma omp parallel
        {
#pragma omp master
          threads = std::max(threads, omp_get_num_threads());
        }
        return threads;
      },
      0, 2, 1);
  EXPECT_EQ(items.next(), 1);
  EXPECT_EQ(items.next(), 1);
  EXPECT_EQ(at::get_num_threads(), before);
  int other = 0;
  std::thread([&] { other = at::get_num_threads(); }).join();
  EXPECT_EQ(other, before);
}

}  // namespace
}  // namespace vixen
