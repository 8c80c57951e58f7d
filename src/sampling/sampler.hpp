// Which queries meet in a batch: a sampler gives the order of an epoch and what joins a batch beside its own labels,
// looks at the run at the end of each epoch, and keeps its state in checkpoints (docs/algorithm.md section 6). A new
// sampler is a file of this folder that defines make_NAME, and a row of config/samplers.inl.
//   N training queries, B queries of a batch, M label columns
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "comm/sharded_table.hpp"
#include "config/config.hpp"

namespace vixen {

/// What a checkpoint keeps of a sampler: small values, and tensors that every rank has.
struct SamplerState {
  nlohmann::json scalars = nlohmann::json::object();
  std::map<std::string, at::Tensor> dense;
};

class Sampler {
 public:
  virtual ~Sampler() = default;

  /// Writes the order of queries in an epoch: a permutation of [0, N), keyed by (seed, epoch), the same wherever it is
  /// asked. Batches are cut from it. Local.
  virtual void fill_order(uint64_t epoch, std::span<int64_t> order) const = 0;

  /// Label columns of a full batch of B queries, extra ones included: M.
  virtual int64_t label_columns(int64_t batch_size) const { return batch_size; }
  /// Label rows offered beside the drawn positives of step `index` (BatchPlanner::plan), the same on every rank. Called
  /// on the prefetch thread while the run goes on. Local.
  virtual std::vector<int64_t> extra_labels(uint64_t epoch, int64_t index) const;

  /// The end of epoch `epoch` (0-based); `more`: another one follows. bank: [N, D] unit query embeddings as last seen.
  /// Collective.
  virtual void end_epoch(uint64_t epoch, bool more, const ShardedTable& bank, Communicator& comm);

  /// state() and restore() round-trip everything that later orders depend on. state(): local. restore(): UserError, or
  /// a JSON exception, for a state that is not this sampler's. Collective.
  virtual SamplerState state() const { return {}; }
  virtual void restore(const SamplerState& state, Communicator& comm);

  /// Bytes of a rank that end_epoch() holds at its fullest beyond the bank, given this rank's rows of it, its width and
  /// whether it is in host memory; 0 for a run that never gets there.
  virtual int64_t end_epoch_bytes(int64_t local_queries, int64_t width, int64_t world_size, bool cpu) const;
  /// How often a whole run does work in end_epoch(), and the bytes that a rank reads and writes each time.
  virtual int64_t updates() const { return 0; }
  virtual double update_traffic_bytes(int64_t local_queries, int64_t width) const;
};

/// The sampler of config.train.sampler. n_queries: N.
std::unique_ptr<Sampler> make_sampler(const Config& config, int64_t n_queries);

}  // namespace vixen
