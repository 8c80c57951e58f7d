// How the rows of a global table are dealt to ranks: contiguous ranges made of whole blocks.
#pragma once

#include <cstdint>

namespace vixen {

/// A half-open range of global rows.
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool contains(int64_t global_row) const { return begin <= global_row && global_row < end; }
  bool operator==(const RowRange&) const = default;
};

/// Rows 0..n_rows-1 over `world_size` ranks. Rank r owns a contiguous range whose borders are multiples of
/// `block_rows` (except the end of the table), so that work done block by block is the same work for every world size.
/// Blocks are spread evenly: counts differ by at most one block. A rank may own nothing.
class RowShards {
 public:
  /// Rows of one encoding block: what a forward pass sees at a time never straddles a border, hence embeddings do not
  /// depend on the world size.
  static constexpr int64_t kBlockRows = 512;

  RowShards() = default;
  RowShards(int64_t n_rows, int world_size, int64_t block_rows = kBlockRows);

  int64_t n_rows() const { return n_rows_; }
  int world_size() const { return world_size_; }
  int64_t block_rows() const { return block_rows_; }
  RowRange range(int rank) const;
  /// The rank that owns a global row (0 <= global_row < n_rows).
  int owner(int64_t global_row) const;
  /// The largest shard's rows.
  int64_t max_rows() const;

 private:
  int64_t n_rows_ = 0;
  int64_t block_rows_ = kBlockRows;
  int world_size_ = 1;
};

/// Rows of a batch of `n_rows` that rank r works on: as even as possible, borders anywhere ([n r / W, n (r+1) / W)).
RowRange batch_slice(int64_t n_rows, int rank, int world_size);

}  // namespace vixen
