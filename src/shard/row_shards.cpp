// Partition arithmetic of row-sharded tables.
#include "shard/row_shards.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace vixen {

RowShards::RowShards(int64_t n_rows, int world_size, int64_t block_rows)
    : n_rows_(n_rows), block_rows_(block_rows), world_size_(world_size) {
  VIXEN_CHECK(n_rows >= 0 && world_size >= 1 && block_rows >= 1, "{} rows, {} ranks, {} rows a block", n_rows,
              world_size, block_rows);
}

RowRange RowShards::range(int rank) const {
  VIXEN_CHECK(rank >= 0 && rank < world_size_, "rank {} of {}", rank, world_size_);
  const int64_t blocks = (n_rows_ + block_rows_ - 1) / block_rows_;
  const int64_t begin = blocks * rank / world_size_ * block_rows_;
  const int64_t end = blocks * (rank + 1) / world_size_ * block_rows_;
  return {std::min(begin, n_rows_), std::min(end, n_rows_)};
}

int RowShards::owner(int64_t global_row) const {
  VIXEN_CHECK(global_row >= 0 && global_row < n_rows_, "row {} of {}", global_row, n_rows_);
  const int64_t blocks = (n_rows_ + block_rows_ - 1) / block_rows_;
  const int64_t block = global_row / block_rows_;
  // Rank r owns blocks [blocks r / W, blocks (r+1) / W): the largest r with blocks r / W <= block.
  return static_cast<int>(((block + 1) * world_size_ - 1) / blocks);
}

int64_t RowShards::max_rows() const {
  int64_t most = 0;
  for (int rank = 0; rank < world_size_; ++rank) most = std::max(most, range(rank).size());
  return most;
}

RowRange batch_slice(int64_t n_rows, int rank, int world_size) {
  return {n_rows * rank / world_size, n_rows * (rank + 1) / world_size};
}

}  // namespace vixen
