// Counter-based random numbers: the published vectors of Philox4x32-10, and what is built on them.
#include "base/random.hpp"

#include <gtest/gtest.h>

#include <set>

namespace vixen {
namespace {

using Block = std::array<uint32_t, 4>;

TEST(Philox, GivesThePublishedVectors) {
  // kat_vectors of the Random123 distribution, philox4x32 10.
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBlock, PutsSeedAndStreamIntoTheKeyAndPlaceIntoTheCounter) {
  const uint64_t seed = 0x0123456789abcdef, a = 0x1111111122222222, b = 0x3333333344444444;
  EXPECT_EQ(random_block(seed, RandomStream::kCluster, a, b),
            philox4x32({0x22222222, 0x11111111, 0x44444444, 0x33333333}, {0x89abcdef, 0x01234567 ^ 4}));
}

TEST(RandomBlock, DiffersBetweenSeedsStreamsAndPlaces) {
  std::set<Block> blocks;
  for (const uint64_t seed : {0ull, 1ull, 1ull << 32}) {
    for (const auto stream : {RandomStream::kShuffle, RandomStream::kPositive, RandomStream::kInit}) {
      for (uint64_t a = 0; a < 4; ++a) {
        for (uint64_t b = 0; b < 4; ++b) blocks.insert(random_block(seed, stream, a, b));
      }
    }
  }
  EXPECT_EQ(blocks.size(), 3u * 3 * 4 * 4);
}

TEST(RandomUniform, LiesInTheUnitIntervalWithTheRightMoments) {
  constexpr int kDraws = 200'000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random_uniform(7, RandomStream::kSample, 3, static_cast<uint64_t>(i));
    ASSERT_GE(x, 0);
    ASSERT_LT(x, 1);
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 4 * 0.2887 / 447);  // four standard errors
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 4 * 0.2981 / 447);
}

TEST(RandomBelow, FillsItsRangeEvenly) {
  constexpr uint64_t kBound = 7;
  constexpr int kDraws = 70'000;
  std::array<int, kBound> counts = {};
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t x = random_below(1, RandomStream::kShuffle, static_cast<uint64_t>(i), 0, kBound);
    ASSERT_LT(x, kBound);
    ++counts[x];
  }
  double chi_square = 0;
  for (const int count : counts) chi_square += (count - 10'000.0) * (count - 10'000.0) / 10'000.0;
  EXPECT_LT(chi_square, 22.5);  // 6 degrees of freedom, p = 0.001
  EXPECT_EQ(random_below(1, RandomStream::kShuffle, 0, 0, 1), 0u);
  EXPECT_LT(random_below(1, RandomStream::kShuffle, 0, 0, ~uint64_t{0}), ~uint64_t{0});
}

}  // namespace
}  // namespace vixen
