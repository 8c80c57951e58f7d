// Training from the first pass to the last, with checkpoints: what `vixen train` runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.hpp"
#include "comm/communicator.hpp"
#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "model/encode_pass.hpp"
#include "model/layered_encoder.hpp"
#include "train/batch_plan.hpp"
#include "train/checkpoint.hpp"
#include "train/label_prototypes.hpp"
#include "train/memory_plan.hpp"
#include "train/metrics_log.hpp"
#include "train/optimiser.hpp"
#include "train/train_step.hpp"

namespace vixen {

/// What the trainer asks of its owner (evaluation lies beside training, not below it).
struct TrainerHooks {
  /// Metrics of the current encoder with this rank's final label representations [local labels, D] (unit rows).
  /// Collective.
  std::function<std::map<std::string, double>(Encoder& encoder, const at::Tensor& label_representations)> evaluate;
  /// Saves the finished model. Collective.
  std::function<void(Encoder& encoder, const at::Tensor& label_representations)> save_model;
  /// Whether another job has taken the run folder over: nothing more may be written. Asked after every step, local.
  std::function<bool()> folder_lost;
};

/// Wall seconds of the passes before the first step.
struct FirstPassSeconds {
  double labels = 0, clusters = 0, queries = 0, centroids = 0;
};

class Trainer {
 public:
  /// Loads the backbone and makes all tables. inverse_propensity [L] weighs the draw of positives. UserError for
  /// settings that cannot work (batch smaller than W, unwritable run folder, a checkpoint of another configuration).
  /// Collective.
  Trainer(const Config& config, const Dataset& dataset, std::vector<double> inverse_propensity,
          std::shared_ptr<Communicator> comm, TrainerHooks hooks);
  ~Trainer();

  /// Takes up the run's newest checkpoint, or makes the first passes. Before run(). Collective.
  void start();
  /// Trains to the end of the schedule. Returns the final metrics. Throws
  /// StoppedOnRequest after saving when USR1 or TERM came (or run.stop_after_steps passed). Collective.
  std::map<std::string, double> run();

  // Parts of run(), for benches and tests.
  /// Passes before the first step: clusters and free vectors, query bank, centroids. Collective.
  void prepare();
  /// Takes up the newest checkpoint of the run folder; false when there is none. Collective.
  bool resume();
  void save();
  /// Steps from the current position, at most `steps`, stopping at the end of the epoch. Returns the losses.
  /// Collective.
  std::vector<double> run_steps(int64_t steps);

  const FirstPassSeconds& first_pass_seconds() const { return first_pass_seconds_; }
  LayeredEncoder& encoder() { return *encoder_; }
  ParameterStore& store() { return store_; }
  TrainStep& step() { return *step_; }
  LabelPrototypes* prototypes() { return prototypes_.get(); }
  ShardedTable& bank() { return *bank_; }
  const BatchPlanner& planner() const { return *planner_; }
  const PackOptions& pack_options() const { return pack_; }
  int64_t global_step() const { return epoch_ * planner_->steps_per_epoch() + index_; }
  /// Bytes this rank holds for the label side: free vectors, moments and gradients, centroids.
  int64_t label_side_bytes() const;
  /// Bytes on disk of a checkpoint of all ranks, without its manifest. Collective.
  int64_t checkpoint_bytes();
  /// How many checkpoints the run may have on disk at a time, the one being written included.
  int64_t most_checkpoints() const;
  /// What the backbone was when the run began (model/weight_fingerprint.hpp).
  const nlohmann::json& base_fingerprint() const { return base_fingerprint_; }
  /// What a rank needs of memory, and how it was made to fit.
  const MemoryPlan& memory_plan() const { return memory_; }

 private:
  void choose_memory();
  EncodePassOptions encode_options(const std::string& label) const;
  at::Tensor encode_labels(const std::string& label);
  at::Tensor label_representations();
  void refresh_bank(const std::string& label);
  void after_step();
  void end_epoch();
  std::map<std::string, double> finish();
  void log_step(const StepResult& result, double lr_factor, int64_t queries, int64_t positions, bool write);
  void evaluate_epoch();
  /// Whether all ranks stop here, because one was asked to. UserError when the folder is lost. Collective.
  bool stop_agreed();
  /// Whether any rank wants something. UserError on all when the folder is lost: nothing may be written then.
  /// Collective.
  bool folder_agreed(bool wants);
  CheckpointState state();
  /// The tensors of state() alone.
  CheckpointState tensors();
  /// resume() from one checkpoint. UserError, or a JSON exception where its manifest holds a value of another kind.
  void resume_from(const std::filesystem::path& folder);
  /// Takes up what `folder` held.
  void adopt(const CheckpointState& state, const std::filesystem::path& folder);
  int64_t total_steps() const { return config_.train.epochs * planner_->steps_per_epoch(); }
  bool is_root() const { return comm_->rank() == 0; }

  Config config_;
  const Dataset* dataset_;
  std::shared_ptr<Communicator> comm_;
  TrainerHooks hooks_;
  PackOptions pack_;
  MemoryPlan memory_;
  ParameterStore store_;
  std::unique_ptr<LayeredEncoder> encoder_;
  std::unique_ptr<LabelPrototypes> prototypes_;
  std::unique_ptr<ShardedTable> bank_;  // [N, D] unit query embeddings seen last, float16
  std::unique_ptr<AdamW> optimiser_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<BatchPlanner> planner_;
  std::unique_ptr<MetricsLog> log_;
  OwnedRagged queries_of_label_;

  FirstPassSeconds first_pass_seconds_;
  // What the run began with, as checkpoints name it (model/weight_fingerprint.hpp); null: no adapter.
  nlohmann::json base_fingerprint_, adapter_fingerprint_;

  // Where the run stands.
  int64_t epoch_ = 0;  // epochs done
  int64_t index_ = 0;  // steps done of the current epoch
  int64_t cluster_size_;
  at::Tensor leaves_;  // int32 [N] host: cluster of each query; undefined before the first clustering
  std::optional<double> best_metric_;
  std::optional<uint64_t> best_step_;
  int64_t steps_here_ = 0;     // steps of this process
  double seconds_before_ = 0;  // training time of earlier processes
  // Sums over the current log interval.
  struct Interval {
    at::Tensor loss, loss_u, loss_uv, loss_i, loss_r;
    int64_t steps = 0, queries = 0, positions = 0;
    double data_seconds = 0, forward_seconds = 0, collective_seconds = 0, backward_seconds = 0, optimiser_seconds = 0;
  } interval_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now(), interval_start_ = started_;
  std::unique_ptr<Progress> progress_;  // while run() runs
};

}  // namespace vixen
