// A mining behind the training (mining.overlap): after each of so many steps a share of the queries is searched, among
// the labels as they were when it began; then all lists are taken up at once.
//
//   Of q, the share is q modulo mining.overlap, whatever the number of ranks: every rank has as many rows of each.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/checkpoint.hpp"
#include "mining/miner.hpp"
#include "train/training_parts.hpp"

namespace vixen {

/// What of a pass is in a checkpoint.
struct MiningProgress {
  int64_t begun_at = 0;     // steps of the run done then
  ShardedTable labels;      // [L, D] float32 unit rows that are searched
  MinedLists lists;         // so far
  MinedCounts counts = {};  // of all ranks
  double seconds = 0;

  /// Nothing found yet. labels: this rank's rows, on the communicator's device; undefined: zeros, to be read into.
  static MiningProgress begin(const TrainingParts& parts, int64_t begun_at, at::Tensor labels = {});
  /// Bytes of its tables, of all ranks; 0 where no mining goes on behind the training.
  static int64_t checkpoint_bytes(const TrainingParts& parts);

  void save(nlohmann::json& scalars) const;
  /// None where the checkpoint was not written in the middle of a pass.
  static std::optional<MiningProgress> restore(const nlohmann::json& scalars, const TrainingParts& parts);
  /// Tables that save() goes with.
  void add_tables(CheckpointState& state);
};

class OverlappedMining {
 public:
  /// Builds the index. Collective.
  OverlappedMining(TrainingParts& parts, MiningProgress progress);

  MiningProgress& progress() { return progress_; }
  /// Steps of the run after which the lists are taken up.
  int64_t ends_at() const;
  /// Searches the share of the queries that belongs behind `steps_done` steps, by their embeddings now. Collective.
  void advance(int64_t steps_done);
  /// Hands all lists over to parts.mined. Local.
  void finish();

 private:
  TrainingParts& parts_;
  MiningProgress progress_;
  Miner miner_;
};

}  // namespace vixen
