// The rules of row partitions, for every rank of W = 1..9 and tables of uneven length.
#include "shard/row_shards.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"

namespace vixen {
namespace {

constexpr int64_t kLengths[] = {0, 1, 2, 7, 8, 9, 63, 64, 65, 511, 512, 513, 1000, 4097, 17'278, 131'073};
constexpr int64_t kBlocks[] = {1, 3, 8, 64, 512};

template <typename Check>
void for_each_case(Check check) {
  for (const int64_t n : kLengths) {
    for (const int64_t block : kBlocks) {
      for (int world = 1; world <= 9; ++world) {
        SCOPED_TRACE(fmt::format("{} rows, blocks of {}, {} ranks", n, block, world));
        check(RowShards(n, world, block));
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

TEST(RowShards, CoverTheTableInOrderWithoutGaps) {
  for_each_case([](const RowShards& shards) {
    int64_t next = 0;
    for (int rank = 0; rank < shards.world_size(); ++rank) {
      const auto range = shards.range(rank);
      EXPECT_EQ(range.begin, next);
      EXPECT_GE(range.size(), 0);
      next = range.end;
    }
    EXPECT_EQ(next, shards.n_rows());
  });
}

TEST(RowShards, BordersAreWholeBlocksAndCountsDifferByOneBlockAtMost) {
  for_each_case([](const RowShards& shards) {
    int64_t least = std::numeric_limits<int64_t>::max(), most = 0;
    for (int rank = 0; rank < shards.world_size(); ++rank) {
      const auto range = shards.range(rank);
      EXPECT_TRUE(range.begin % shards.block_rows() == 0 || range.begin == shards.n_rows());
      const int64_t blocks = (range.size() + shards.block_rows() - 1) / shards.block_rows();
      least = std::min(least, blocks);
      most = std::max(most, blocks);
    }
    EXPECT_LE(most - least, 1);
  });
}

TEST(RowShards, OwnerIsTheRankWhoseRangeHoldsTheRow) {
  for_each_case([](const RowShards& shards) {
    int64_t most = 0;
    for (int rank = 0; rank < shards.world_size(); ++rank) {
      const auto range = shards.range(rank);
      most = std::max(most, range.size());
      for (const int64_t row : {range.begin, range.begin + range.size() / 2, range.end - 1}) {
        if (range.contains(row)) {
          EXPECT_EQ(shards.owner(row), rank) << "row " << row;
        }
      }
    }
    EXPECT_EQ(shards.max_rows(), most);
  });
}

TEST(RowShards, OwnerOfEveryRowOfASmallTable) {
  for (int64_t n = 1; n <= 40; ++n) {
    for (int world = 1; world <= 9; ++world) {
      const RowShards shards(n, world, 3);
      for (int64_t row = 0; row < n; ++row) EXPECT_TRUE(shards.range(shards.owner(row)).contains(row));
    }
  }
}

TEST(RowShards, RefuseWhatIsOutside) {
  const RowShards shards(10, 2, 4);
  EXPECT_THROW(shards.owner(10), BugError);
  EXPECT_THROW(shards.owner(-1), BugError);
  EXPECT_THROW(shards.range(2), BugError);
  EXPECT_THROW(RowShards(10, 0), BugError);
  EXPECT_THROW(RowShards(-1, 1), BugError);
}

TEST(BatchSlice, CoversTheBatchAsEvenlyAsPossible) {
  for (const int64_t n : {0, 1, 5, 8, 9, 17, 511, 512, 2048}) {
    for (int world = 1; world <= 9; ++world) {
      int64_t next = 0, least = n, most = 0;
      for (int rank = 0; rank < world; ++rank) {
        const auto slice = batch_slice(n, rank, world);
        EXPECT_EQ(slice.begin, next);
        next = slice.end;
        least = std::min(least, slice.size());
        most = std::max(most, slice.size());
      }
      EXPECT_EQ(next, n);
      EXPECT_LE(most - least, 1) << n << " rows over " << world;
    }
  }
}

}  // namespace
}  // namespace vixen
