#include "train/run_checkpoints.hpp"

#include "base/check.hpp"
#include "base/lap.hpp"
#include "base/log.hpp"

namespace vixen {

RunCheckpoints::RunCheckpoints(const RunConfig& run, Communicator& comm)
    : run_(&run), comm_(&comm), writer_(run.dir, comm) {}

void RunCheckpoints::begin(const CheckpointState& state, const RunPosition& position, std::optional<uint64_t> best_step,
                           bool is_last) {
  constexpr double kSaidSeconds = 1;
  const Lap lap;
  const int64_t before = position_.step;
  settle();
  waited_seconds_ = lap.total();
  if (waited_seconds_ >= kSaidSeconds && comm_->rank() == 0)
    spdlog::info(
        "training stood still for {:.1f} s: the checkpoint of step {} waited for that of step {} to be written",
        waited_seconds_, state.step, before);
  position_ = position;
  is_last_ = is_last;
  failure_.clear();
  const KeepRules keep{run_->keep_last, run_->keep_every_steps, best_step};
  try {
    writer_.begin(state, keep, /*snapshot=*/run_->checkpoint_async);
  } catch (const UserError& error) {
    CheckpointEnd end;
    end.step = state.step;
    end.failure = error.what();
    take(end);
  }
  if (!run_->checkpoint_async) settle();
}

void RunCheckpoints::look() {
  if (const auto end = writer_.look()) take(*end);
}

void RunCheckpoints::settle() {
  if (writer_.busy()) take(writer_.wait());
}

void RunCheckpoints::require() {
  settle();
  if (!failure_.empty()) fail_user("{}: no checkpoint of step {}, the run's last", failure_, position_.step);
}

void RunCheckpoints::take(const CheckpointEnd& end) {
  failure_ = end.failure;
  if (end.diverged) throw UserError(failure_);
  const bool is_root = comm_->rank() == 0;
  if (!failure_.empty()) {
    if (is_root && !is_last_ && warning_.due())
      spdlog::warn("no checkpoint of step {}: {}: training goes on, the next checkpoint tries again", end.step,
                   failure_);
  } else {
    if (missed_ && is_root) spdlog::info("the checkpoint of step {} is written, the first since one failed", end.step);
    warning_.reset();
    if (log_ != nullptr) log_->add_checkpoint(position_, end, waited_seconds_);
  }
  missed_ = !failure_.empty();
}

}  // namespace vixen
