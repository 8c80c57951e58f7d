// Training from the first pass to the last, with checkpoints: what `vixen train` drives, epoch by epoch.
//
//   Trainer trainer(config, dataset, weights, comm);
//   trainer.start();
//   while (trainer.run_epoch()) {
//     if (trainer.evaluation_due()) trainer.record_evaluation(evaluate(..., trainer.label_representations()));
//     trainer.checkpoint();
//   }
//   const auto labels = trainer.finish();
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/lap.hpp"
#include "checkpoint/checkpoint.hpp"
#include "comm/agreement.hpp"
#include "train/cadence.hpp"
#include "train/overlapped_mining.hpp"
#include "train/passes.hpp"
#include "train/run_checkpoints.hpp"
#include "train/run_log.hpp"
#include "train/training_parts.hpp"

namespace vixen {

class Trainer {
 public:
  /// Makes the parts (train/training_parts.hpp). folder_lost: whether another job has taken the run folder over, so
  /// that nothing more may be written; asked after every step, local; empty: never. UserError as TrainingParts, and for
  /// a run folder that cannot be written. Collective.
  Trainer(const Config& config, const Dataset& dataset, NodeArray<double> inverse_propensity,
          std::shared_ptr<Communicator> comm, std::function<bool()> folder_lost = {});
  ~Trainer();

  /// Takes up the run's newest checkpoint, or makes the first passes; opens the run's log. Collective.
  void start();
  /// Trains to the end of the current epoch; false when all were done before. Throws StoppedOnRequest after saving when
  /// USR1 or TERM came (a step later, at most), or run.stop_after_steps have passed. After start(). Collective.
  bool run_epoch();
  /// Whether an evaluation is due now, between two epochs.
  bool evaluation_due() const { return evaluations_.due(epoch_); }
  void record_evaluation(const std::map<std::string, double>& metrics);
  /// Begins a checkpoint, which is written while training goes on (run.checkpoint_async), and drops those that are not
  /// kept any more (train/run_checkpoints.hpp). What a disk refuses is a warning. Collective.
  void checkpoint();
  /// The same, and waits until it is in place. UserError when it cannot be written. Collective.
  void save();
  /// After the last epoch: the passes that the finished model needs. Returns label_representations(). UserError when
  /// the run's last checkpoint could not be written. Collective.
  at::Tensor finish();
  /// Logs the finished model's metrics and adds "seconds": of all parts of the run. Collective.
  void record_final(std::map<std::string, double>& metrics);

  // The steps of the above, for those who drive a run themselves.
  /// First passes (train/passes.hpp), instead of taking up a checkpoint. Collective.
  FirstPassSeconds prepare();
  /// Takes up the newest checkpoint of the run folder; false when there is none. Collective.
  bool resume();
  /// Steps from the current position, at most `steps`, at most to the end of the epoch; `look` sees each result, before
  /// the next step. Returns how many. Collective.
  int64_t run_steps(int64_t steps, const std::function<void(const StepResult&)>& look = {});

  /// Unit rows of this rank's labels as they are now [local labels, D]. Collective.
  at::Tensor label_representations() { return vixen::label_representations(*parts_); }
  TrainingParts& parts() { return *parts_; }
  int64_t global_step() const { return epoch_ * parts_->planner->steps_per_epoch() + index_; }
  /// Bytes on disk of a checkpoint of all ranks, without its manifest. Collective.
  int64_t checkpoint_bytes();
  const CheckpointCadence& checkpoints() const { return checkpoints_; }
  /// Bytes of host memory that snapshots of this rank's state hold, from the first checkpoint on.
  int64_t snapshot_bytes() const { return saving_.snapshot_bytes(); }

 private:
  /// One stretch of steps between which the lists of mined negatives stay the same.
  void run_stretch(int64_t last, std::span<const int64_t> order, const std::function<void(const StepResult&)>& look);
  /// Mines if that is due now, or begins to; takes up what a mining behind the training has found. Throws
  /// StoppedOnRequest after saving when a stop was asked for meanwhile. Collective.
  void mine_if_due();
  /// Steps of the run, from now on, up to which the lists of mined negatives stay as they are.
  int64_t same_lists_until() const;
  void after_step();
  void end_epoch();
  [[noreturn]] void stop_here();
  RunPosition position() const;
  /// What a rank has to say: that it was asked to stop or its job ends soon, or that the folder is lost.
  enum Word : int64_t { kGoOn = 0, kStop = 1, kLost = 2 };
  Word word() const;
  /// Whether all ranks stop here, because one was asked to; ranks wait for one another. UserError on all when the
  /// folder is lost: nothing may be written then. Collective.
  bool stop_agreed();
  /// UserError on all when the folder is lost for any. Collective.
  void check_folder();
  /// Whether that is what was agreed upon. UserError for a lost folder.
  bool stops(int64_t agreed) const;
  double seconds() const;
  CheckpointState state();
  void begin_checkpoint(bool is_last);
  /// The tensors of state() alone.
  CheckpointState tensors();
  /// resume() from one checkpoint. UserError, or a JSON exception where its manifest holds a value of another kind.
  void resume_from(const std::filesystem::path& folder);
  /// Takes up what `folder` held.
  void adopt(const CheckpointState& state, const std::filesystem::path& folder);
  int64_t total_steps() const { return parts_->config.train.epochs * parts_->planner->steps_per_epoch(); }
  bool is_root() const { return parts_->comm->rank() == 0; }

  std::unique_ptr<TrainingParts> parts_;
  std::function<bool()> folder_lost_;
  EvaluationCadence evaluations_;
  CheckpointCadence checkpoints_;
  MiningCadence minings_;
  std::unique_ptr<OverlappedMining> mining_;  // while one goes on behind the training
  Agreement agreement_;                       // on stops, behind the steps
  std::optional<double> stop_after_seconds_;  // of clock_: before the job ends
  std::unique_ptr<RunLog> log_;               // from start() on
  RunCheckpoints saving_;

  int64_t epoch_ = 0;          // epochs done
  int64_t index_ = 0;          // steps done of the current epoch
  int64_t steps_here_ = 0;     // steps of this process
  double seconds_before_ = 0;  // training time of earlier processes
  Lap clock_;                  // of the training here
};

}  // namespace vixen
