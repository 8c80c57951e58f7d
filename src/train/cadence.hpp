// When a run is evaluated and saved, and which evaluation was the best.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "config/config.hpp"

namespace vixen {

/// train.evaluate_every_epochs and train.best_metric.
class EvaluationCadence {
 public:
  explicit EvaluationCadence(const TrainConfig& config);

  /// Whether an evaluation follows `epochs_done` epochs. Not after the last: the finished model is evaluated anyway.
  bool due(int64_t epochs_done) const;
  /// Takes note of an evaluation at a step, and returns its best_metric. UserError when it is not among the metrics.
  double record(const std::map<std::string, double>& metrics, uint64_t step);

  std::optional<double> best() const { return best_; }
  /// The step of the best evaluation, whose checkpoint is kept.
  std::optional<uint64_t> best_step() const { return best_step_; }

  /// Keys best_metric and best_step of a checkpoint, once there has been an evaluation.
  void save(nlohmann::json& scalars) const;
  void restore(const nlohmann::json& scalars);

 private:
  int64_t every_epochs_, epochs_;
  std::string metric_;
  std::optional<double> best_;
  std::optional<uint64_t> best_step_;
};

/// run.checkpoint_every_steps, run.keep_last and run.keep_every_steps. At the end of an epoch a checkpoint is always
/// written.
class CheckpointCadence {
 public:
  CheckpointCadence(const RunConfig& run, int64_t epochs, int64_t steps_per_epoch);

  /// Whether a checkpoint follows step `step` (1-based, of the run) within an epoch.
  bool due(int64_t step) const;
  /// How many checkpoints a run may have on disk at a time, the one being written included.
  int64_t most_on_disk() const;

 private:
  int64_t every_steps_, keep_last_, keep_every_steps_, epochs_, steps_per_epoch_;
};

/// When negatives are mined: mining.start_epoch, every_epochs, every_steps. Lists are made before the first step that
/// uses them, not after the last one before: a checkpoint in between holds what they are made from.
class MiningCadence {
 public:
  /// UserError where the next mining would begin before one that is spread over steps (mining.overlap) has ended.
  MiningCadence(const MiningConfig& mining, int64_t steps_per_epoch);

  /// Whether a mining belongs between step `steps_done` (1-based, of the run) and the next, and has not been made.
  bool due(int64_t steps_done) const;
  /// The first mining after `steps_done` steps; far away without any.
  int64_t next(int64_t steps_done) const;
  void record(int64_t steps_done) { last_ = steps_done; }
  /// Whether there has been one.
  bool begun() const { return last_ >= 0; }

  /// Key mined_at of a checkpoint, of a run that mines.
  void save(nlohmann::json& scalars) const;
  void restore(const nlohmann::json& scalars);

 private:
  bool on_;
  int64_t first_, every_;
  int64_t last_ = -1;  // steps done at the last mining
};

}  // namespace vixen
