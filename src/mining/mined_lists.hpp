// The mined negatives of every training query while a run lasts, and the label columns that they give to a batch.
//   N training queries, K = mining.depth, B queries of a batch
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.hpp"
#include "config/config.hpp"
#include "mining/miner.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Lists dealt to ranks by rows of queries, in host memory.
class MinedLists {
 public:
  /// Empty lists (-1 everywhere).
  MinedLists(const Config& config, int64_t n_queries, Communicator& comm);

  const RowShards& shards() const { return shards_; }
  /// int32 [queries of this rank, K]: labels, hardest first, -1 behind them.
  at::Tensor& ids() { return ids_; }
  /// float16 [queries of this rank, K]; undefined where mining.draw does not look at scores.
  at::Tensor& scores() { return scores_; }
  /// Bytes of a rank with so many queries.
  static int64_t bytes(const MiningConfig& config, int64_t own_queries);

  /// Bytes of what a query offers to a batch of B queries.
  static int64_t offer_bytes(const MiningConfig& config, int64_t batch_queries);

  /// Takes over a block of one or more of this rank's queries. Local.
  void assign(const MinedBlock& block);

  /// Labels offered as extra columns of `step`, best first: a first label of every query of the batch, in a keyed
  /// order, then a second, ... Of each query at most kOffers times what its share of mining.columns is, for other
  /// queries offer some of them too. query_rows [B]: the batch, the same on every rank. The result is the same on every
  /// rank and for any number of them. Collective, on the host.
  std::vector<int64_t> offers(uint64_t step, std::span<const int64_t> query_rows) const;

 private:
  static constexpr int64_t kOffers = 4;
  // Labels that a query offers.
  static int64_t offers_a_query(const MiningConfig& config, int64_t batch_queries);
  void draw(uint64_t step, int64_t query, std::span<int32_t> drawn) const;

  MiningConfig mining_;
  uint64_t seed_;
  double temperature_;
  Communicator* comm_;
  RowShards shards_;
  at::Tensor ids_, scores_;
};

}  // namespace vixen
