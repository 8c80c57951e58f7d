// The cache of host memory blocks: classes of sizes, reuse, what is kept, threads.
#include "device/block_cache.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <thread>
#include <vector>

namespace vixen {
namespace {

constexpr size_t kMegabyte = size_t{1} << 20;

TEST(BlockCache, RoundsLargeSizesUpByAtMostAnEighth) {
  for (size_t bytes = 1; bytes < (size_t{1} << 34); bytes = bytes * 9 / 8 + 7) {
    const size_t size = BlockCache::rounded(bytes);
    EXPECT_GT(size, bytes);
    EXPECT_EQ(size % 64, 0U);
    EXPECT_LE(size, bytes + 2 * 64 + (bytes + 64) / 8) << bytes;
  }
}

TEST(BlockCache, BlocksAreAlignedWritableAndApart) {
  BlockCache cache;
  std::vector<std::pair<void*, size_t>> blocks;
  for (const size_t bytes :
       {size_t{0}, size_t{1}, size_t{63}, size_t{4096}, size_t{300000}, 3 * kMegabyte, 20 * kMegabyte}) {
    void* data = cache.take(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0U);
    std::memset(data, static_cast<int>(blocks.size()) + 1, bytes);
    blocks.emplace_back(data, bytes);
  }
  for (size_t i = 0; i < blocks.size(); ++i)
    for (size_t j = 0; j < blocks[i].second; j += 997)
      ASSERT_EQ(static_cast<unsigned char*>(blocks[i].first)[j], i + 1);
  for (const auto& block : blocks) cache.give_back(block.first);
  cache.give_back(nullptr);
  EXPECT_EQ(cache.in_use_bytes(), 0);
}

TEST(BlockCache, HandsAFreeBlockOutAgain) {
  BlockCache cache;
  const auto held = static_cast<int64_t>(BlockCache::rounded(5 * kMegabyte));
  void* first = cache.take(5 * kMegabyte);
  EXPECT_EQ(cache.held_bytes(), held);
  cache.give_back(first);
  EXPECT_EQ(cache.in_use_bytes(), 0);
  EXPECT_EQ(cache.held_bytes(), held);
  EXPECT_EQ(cache.take(5 * kMegabyte + 1000), first);  // of the same class
  EXPECT_EQ(cache.in_use_bytes(), static_cast<int64_t>(5 * kMegabyte + 1000));
  EXPECT_EQ(cache.held_bytes(), held);
  cache.give_back(first);
}

TEST(BlockCache, WhatIsHeldIsBoundedByThePeak) {
  BlockCache cache;
  // Batches whose sizes differ: each works on ten tensors of one size that grows from batch to batch.
  for (size_t batch = 0; batch < 60; ++batch) {
    std::vector<void*> blocks(10);
    for (void*& block : blocks) block = cache.take((20 + batch % 37) * kMegabyte);
    for (void* block : blocks) cache.give_back(block);
    const auto most = static_cast<int64_t>(10 * BlockCache::rounded((20 + std::min(batch, size_t{36})) * kMegabyte));
    EXPECT_LE(cache.held_bytes(), most + std::max(most / 8 + 1, int64_t{1} << 26)) << batch;
    EXPECT_GE(cache.held_bytes(), most / 2) << batch;
  }
}

TEST(BlockCache, CountsThePeakSinceAReset) {
  BlockCache cache;
  void* a = cache.take(8 * kMegabyte);
  void* b = cache.take(16 * kMegabyte);
  EXPECT_EQ(cache.peak_bytes(), static_cast<int64_t>(24 * kMegabyte));
  cache.give_back(b);
  EXPECT_EQ(cache.peak_bytes(), static_cast<int64_t>(24 * kMegabyte));
  cache.reset_peak();
  EXPECT_EQ(cache.peak_bytes(), static_cast<int64_t>(8 * kMegabyte));
  cache.give_back(a);
}

TEST(BlockCache, SaysWhenThereIsNoMemory) {
  BlockCache cache;
  EXPECT_THROW((void)cache.take(size_t{1} << 60), std::bad_alloc);
  EXPECT_EQ(cache.in_use_bytes(), 0);
}

TEST(BlockCache, ThreadsShareIt) {
  BlockCache cache;
  std::vector<std::thread> threads;
  for (unsigned char id = 1; id <= 4; ++id)
    threads.emplace_back([&cache, id] {
      for (int i = 0; i < 200; ++i) {
        const size_t bytes = (static_cast<size_t>(i) % 5 + 1) * 300000;
        auto* data = static_cast<unsigned char*>(cache.take(bytes));
        data[0] = data[bytes - 1] = id;
        std::this_thread::yield();
        EXPECT_EQ(data[0], id);
        EXPECT_EQ(data[bytes - 1], id);
        cache.give_back(data);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(cache.in_use_bytes(), 0);
}

}  // namespace
}  // namespace vixen
