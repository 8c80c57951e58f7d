// One rank's part of an objective: its rows of both sides of the batch, a block of rows at a time, so that memory is
// bounded by a block, whatever the batch. No communication: the caller adds up over ranks what ranks hand out.
//   B queries, M label columns, D width; b and m rows of this rank; n sums of all terms
#pragma once

#include <memory>
#include <vector>

#include "objective/objective.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// What blocks of scores, with what is made from them, take at most (one row may take more).
inline constexpr int64_t kScoreBlockBytes = int64_t{256} << 20;

/// With train.objective = auto, what Objective::bytes() may be of the whole batch for every rank to evaluate all of it.
inline constexpr int64_t kReplicatedBytes = 1'000'000'000;
/// How batches of `columns` label columns are evaluated: kReplicated or kSharded, as train.objective says or by size.
/// The same for every number of ranks.
ObjectiveWay objective_way(const Config& config, const Objective& objective, int64_t columns);

/// Bytes that a rank with b of B queries and m of M label columns holds at the fullest moment of a PartialObjective,
/// beyond its input and result.
int64_t partial_bytes(const Objective& objective, int64_t b, int64_t m, int64_t all_b, int64_t all_m,
                      int64_t block_bytes = kScoreBlockBytes);

/// Where the pairs of each query begin in `positives` [2, P] (host), and where the last ones end: int64 [B + 1] host.
at::Tensor pair_starts(const at::Tensor& positives, int64_t b);

class PartialObjective {
 public:
  /// queries, columns: this rank's rows of the two sides; over all ranks every row once. Either may be empty. `starts`:
  /// as pair_starts() gives it. `input` is the whole batch's, and outlives the object.
  PartialObjective(const Objective& objective, const ObjectiveInput& input, at::Tensor starts, RowRange queries,
                   RowRange columns, int64_t block_bytes = kScoreBlockBytes);

  /// float64 [n] on the device: this rank's part of the sums over all rows. Once.
  at::Tensor sums();
  /// With the sums of all ranks: loss and terms of the whole batch, the same on every rank, and this rank's part of the
  /// gradients [B, D], [M, D], [M, D], to be summed over ranks. Once, after sums().
  ObjectiveResult finish(const at::Tensor& totals);

 private:
  // The terms of a side on a block of its rows, until the sums are known.
  struct Block {
    Side side;
    RowRange rows;
    std::vector<std::unique_ptr<TermRows>> found;  // by term; null for terms of the other side
  };

  Block look(Side side, const RowRange& rows) const;
  // Adds a block's gradients to this rank's. totals: by term, or empty where none needs them.
  void add_gradients(const Block& block, const std::vector<at::Tensor>& totals);

  const Objective& objective_;
  const ObjectiveInput& input_;
  at::Tensor starts_;
  RowRange queries_, columns_;
  int64_t block_bytes_;
  std::vector<Block> waiting_;  // for the sums
  std::vector<int64_t> sizes_;  // sums of each term
  at::Tensor grad_q_, grad_u_, grad_z_;
};

}  // namespace vixen
