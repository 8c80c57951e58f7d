// The checkpoints of a run: begun, looked after behind the steps, and what is said of them.
//
// One is on its way at a time. The next, when it falls due before, waits for it: which steps have a checkpoint is a
// function of the settings, not of how fast a disk is. A checkpoint that a disk refuses is a warning, once a minute
// where many do; the last one that there can be is not (require()).
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/now_and_then.hpp"
#include "checkpoint/checkpoint_writer.hpp"
#include "config/config.hpp"
#include "train/run_log.hpp"

namespace vixen {

class RunCheckpoints {
 public:
  /// Both outlive the object. Local.
  RunCheckpoints(const RunConfig& run, Communicator& comm);
  /// `log` hears of every checkpoint that is in place from now on; it outlives the object.
  void tell(RunLog& log) { log_ = &log; }

  /// Waits for the one on its way, then begins this one; without run.checkpoint_async waits for it too. is_last: there
  /// will be no other, so what a disk refuses is kept for require(). UserError for a state that no disk is at fault for
  /// (not finite). Collective.
  void begin(const CheckpointState& state, const RunPosition& position, std::optional<uint64_t> best_step,
             bool is_last);
  /// Behind a step. UserError as begin(). Collective.
  void look();
  /// Waits for the one on its way. UserError when the newest that was begun is not in place. Collective.
  void require();

  /// Host memory that snapshots hold.
  int64_t snapshot_bytes() const { return writer_.snapshot_bytes(); }

 private:
  void settle();
  void take(const CheckpointEnd& end);

  const RunConfig* run_;
  Communicator* comm_;
  CheckpointWriter writer_;
  RunLog* log_ = nullptr;      // nobody hears of it
  RunPosition position_;       // of the newest
  double waited_seconds_ = 0;  // of the newest, for the one before
  bool is_last_ = false;
  bool missed_ = false;  // the last that ended failed
  NowAndThen warning_{60};
  std::string failure_;  // of the newest; empty: none yet
};

}  // namespace vixen
