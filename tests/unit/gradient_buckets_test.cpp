// Buckets of gradients: what comes together, what sets out at once, and that every element travels once.
#include "shard/gradient_buckets.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace vixen {
namespace {

using Ranges = std::vector<RowRange>;

// Buckets of so many elements, in the order in which they set out.
Ranges sent(double full_elements, const Ranges& ready) {
  Ranges buckets;
  GradientBuckets waiting(full_elements * 4 / 1e6);
  const auto send = [&](const RowRange& bucket) { buckets.push_back(bucket); };
  for (const auto& range : ready) waiting.add(range, send);
  waiting.flush(send);
  waiting.flush(send);  // nothing is left
  return buckets;
}

TEST(GradientBuckets, WhatLiesSideBySideComesTogetherUntilItIsFull) {
  // From the last to the first, as a backward pass goes.
  const Ranges ready = {{900, 1000}, {700, 890}, {500, 700}, {100, 500}, {0, 100}};
  EXPECT_EQ(sent(300, ready), (Ranges{{700, 1000}, {100, 700}, {0, 100}}));
  EXPECT_EQ(sent(301, ready), (Ranges{{500, 1000}, {100, 500}, {0, 100}}));
  EXPECT_EQ(sent(501, ready), (Ranges{{100, 1000}, {0, 100}}));
  EXPECT_EQ(sent(1e9, ready), (Ranges{{0, 1000}}));
  EXPECT_EQ(sent(0, ready), ready) << "each by itself";
}

TEST(GradientBuckets, AGapOfParametersCutsABucket) {
  const int64_t gap = GradientBuckets::kGap;
  EXPECT_EQ(sent(1e9, {{1000, 1100}, {900, 1000 - gap + 1}}), (Ranges{{900, 1100}}));
  EXPECT_EQ(sent(1e9, {{1000, 1100}, {900, 1000 - gap}}), (Ranges{{1000, 1100}, {900, 1000 - gap}}));
  EXPECT_EQ(sent(1e9, {{1000, 1100}, {1100 + gap - 1, 1300}}), (Ranges{{1000, 1300}}));
  EXPECT_EQ(sent(1e9, {{1000, 1100}, {1100 + gap, 1300}}), (Ranges{{1000, 1100}, {1100 + gap, 1300}}));
}

TEST(GradientBuckets, NothingIsNothing) {
  EXPECT_EQ(sent(100, {}), Ranges{});
  EXPECT_EQ(sent(100, {{5, 5}, {9, 9}}), Ranges{});
  EXPECT_EQ(sent(0, {{5, 5}}), Ranges{});
}

}  // namespace
}  // namespace vixen
