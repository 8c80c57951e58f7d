// What a run says of itself while it trains: sums over an interval of steps, reduced over ranks, one line of
// RUN/metrics.jsonl each, and the progress bar.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/lap.hpp"
#include "base/progress.hpp"
#include "checkpoint/checkpoint_writer.hpp"
#include "comm/communicator.hpp"
#include "comm/counting_communicator.hpp"
#include "config/config.hpp"
#include "mining/candidates.hpp"
#include "train/metrics_log.hpp"
#include "train/stragglers.hpp"
#include "train/train_step.hpp"

namespace vixen {

/// Where a run has got to.
struct RunPosition {
  int64_t step = 0;  // steps done
  double epoch = 0;  // epochs done, with their fraction
};

class RunLog {
 public:
  /// A run that goes on from `step`, with so many queries of its epochs to come. Opens RUN/metrics.jsonl on rank 0.
  /// messages: `comm` where it counts, else null.
  RunLog(const Config& config, int64_t step, int64_t queries_to_come, Communicator& comm,
         const CountingCommunicator* messages = nullptr);

  /// Whether the step after `steps_done` is the last of an interval; such a step is asked for its gradient norm, the
  /// spread of its embeddings, and how long this rank's encoder took.
  bool due(int64_t steps_done) const;

  /// Takes note of a step. data_seconds: waited for its input. At the end of an interval the host waits for the device:
  /// a loss that is not finite is a UserError, else a line is written. Collective.
  void add(const StepInput& input, const StepResult& result, const RunPosition& position, double data_seconds,
           double lr);
  /// Writes the metrics of an evaluation. Local; rank 0 writes.
  void add_evaluation(const RunPosition& position, const std::map<std::string, double>& metrics);

  /// Writes what a mining found, and says so on rank 0. Local; rank 0 writes.
  void add_mining(const RunPosition& position, const MinedCounts& counts, double seconds);

  /// Writes how long a checkpoint took; waited_seconds: for the one before. Its step may be lower than that of the line
  /// before. Local; rank 0 writes.
  void add_checkpoint(const RunPosition& position, const CheckpointEnd& end, double waited_seconds);

  /// Ends the progress bar.
  void finish();

 private:
  struct Sum {
    std::string name;
    at::Tensor value;
  };
  struct Interval {
    at::Tensor loss;
    std::vector<Sum> terms;
    int64_t steps = 0, queries = 0, positions = 0;
    double data_seconds = 0;
    StepSeconds seconds;
  };
  void write_interval(const StepResult& result, const RunPosition& position, double lr, double loss,
                      int64_t all_positions, const std::vector<double>& rank_seconds);

  const Config* config_;
  Communicator* comm_;
  const CountingCommunicator* messages_;  // null: not counted
  MessageCounts counted_;                 // up to the interval's begin
  std::unique_ptr<MetricsLog> lines_;     // rank 0
  Progress progress_;
  Interval interval_;
  CollapseWatch collapse_;
  StragglerWatch stragglers_;
  Lap interval_clock_;
};

}  // namespace vixen
