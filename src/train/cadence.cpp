// The cadences of evaluations and checkpoints.
#include "train/cadence.hpp"

#include <algorithm>
#include <limits>

#include "base/check.hpp"

namespace vixen {

EvaluationCadence::EvaluationCadence(const TrainConfig& config)
    : every_epochs_(config.evaluate_every_epochs), epochs_(config.epochs), metric_(config.best_metric) {}

bool EvaluationCadence::due(int64_t epochs_done) const {
  return every_epochs_ > 0 && epochs_done < epochs_ && epochs_done % every_epochs_ == 0;
}

double EvaluationCadence::record(const std::map<std::string, double>& metrics, uint64_t step) {
  const auto found = metrics.find(metric_);
  if (found == metrics.end())
    fail_user("train.best_metric is '{}', which is not among the metrics (P@1, PSP@1, R@100, ...)", metric_);
  if (!best_ || found->second > *best_) {
    best_ = found->second;
    best_step_ = step;
  }
  return found->second;
}

void EvaluationCadence::save(nlohmann::json& scalars) const {
  if (!best_) return;
  scalars["best_metric"] = *best_;
  scalars["best_step"] = *best_step_;
}

void EvaluationCadence::restore(const nlohmann::json& scalars) {
  if (!scalars.contains("best_metric")) return;
  best_ = scalars.at("best_metric").get<double>();
  best_step_ = scalars.at("best_step").get<uint64_t>();
}

MiningCadence::MiningCadence(const MiningConfig& mining, int64_t steps_per_epoch)
    : on_(mining.columns > 0),
      first_((mining.start_epoch + 1) * steps_per_epoch),
      every_(mining.every_steps > 0 ? mining.every_steps : mining.every_epochs * steps_per_epoch) {
  if (on_ && mining.overlap > every_)
    fail_user("mining.overlap = {}: expected at most {}, the steps between two minings ({})", mining.overlap, every_,
              mining.every_steps > 0 ? "mining.every_steps" : "mining.every_epochs");
}

bool MiningCadence::due(int64_t steps_done) const {
  return on_ && steps_done >= first_ && (steps_done - first_) % every_ == 0 && last_ != steps_done;
}

int64_t MiningCadence::next(int64_t steps_done) const {
  if (!on_) return std::numeric_limits<int64_t>::max();
  return steps_done < first_ ? first_ : first_ + ((steps_done - first_) / every_ + 1) * every_;
}

void MiningCadence::save(nlohmann::json& scalars) const {
  if (on_) scalars["mined_at"] = last_;
}

void MiningCadence::restore(const nlohmann::json& scalars) {
  if (on_) last_ = scalars.at("mined_at").get<int64_t>();
}

CheckpointCadence::CheckpointCadence(const RunConfig& run, int64_t epochs, int64_t steps_per_epoch)
    : every_steps_(run.checkpoint_every_steps),
      keep_last_(run.keep_last),
      keep_every_steps_(run.keep_every_steps),
      epochs_(epochs),
      steps_per_epoch_(steps_per_epoch) {}

bool CheckpointCadence::due(int64_t step) const {
  return every_steps_ > 0 && step % every_steps_ == 0 && step % steps_per_epoch_ != 0;
}

int64_t CheckpointCadence::most_on_disk() const {
  const int64_t an_epoch = every_steps_ > 0 ? std::max<int64_t>(1, steps_per_epoch_ / every_steps_) : 1;
  constexpr int64_t kBestAndNew = 2;
  // Those kept for good: steps that have a checkpoint, at most each that is a multiple.
  const int64_t for_good = keep_every_steps_ > 0 ? epochs_ * steps_per_epoch_ / keep_every_steps_ : 0;
  return std::min(epochs_ * an_epoch, keep_last_ + kBestAndNew + for_good);
}

}  // namespace vixen
