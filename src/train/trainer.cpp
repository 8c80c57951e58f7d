// The training loop: epochs, what happens after a step, at the end of an epoch and of the run.
#include "train/trainer.hpp"

#include <algorithm>

#include "base/activity.hpp"
#include "base/allocation_end.hpp"
#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/stop.hpp"
#include "comm/on_root.hpp"
#include "data/handover.hpp"
#include "data/prefetcher.hpp"
#include "prototypes/centroids.hpp"

namespace vixen {

Trainer::Trainer(const Config& config, const Dataset& dataset, NodeArray<double> inverse_propensity,
                 std::shared_ptr<Communicator> comm, std::function<bool()> folder_lost)
    : parts_(std::make_unique<TrainingParts>(config, dataset, std::move(inverse_propensity), std::move(comm))),
      folder_lost_(std::move(folder_lost)),
      evaluations_(config.train),
      checkpoints_(config.run, config.train.epochs, parts_->planner->steps_per_epoch()),
      minings_(config.mining, parts_->planner->steps_per_epoch()),
      agreement_(*parts_->comm),
      saving_(parts_->config.run, *parts_->comm) {
  if (!config.run.dir.empty()) on_root(*parts_->comm, [&] { make_folder(config.run.dir); });
}

Trainer::~Trainer() = default;

FirstPassSeconds Trainer::prepare() {
  return first_passes(*parts_);
}

void Trainer::start() {
  const auto& config = parts_->config;
  VIXEN_CHECK(!config.run.dir.empty(), "a run needs a folder");
  if (!resume()) prepare();
  install_stop_handlers();  // from here on there is something to save
  const int64_t n = parts_->dataset.train().size();
  if (is_root()) {
    const auto label_side = parts_->prototypes ? parts_->prototypes->local_bytes() : 0;
    spdlog::info("{} queries, {} labels, {} steps of {} queries in {} epochs; label side {:.1f} MB on this rank of {}",
                 n, parts_->dataset.labels().size(), total_steps(), config.train.batch_size, config.train.epochs,
                 static_cast<double>(label_side) / 1e6, parts_->comm->world_size());
    spdlog::info("{}", memory_table(parts_->memory, parts_->encoder->n_layers()));
  }
  const int64_t queries_done = epoch_ * n + std::min(n, index_ * config.train.batch_size);
  log_ = std::make_unique<RunLog>(config, global_step(), config.train.epochs * n - queries_done, *parts_->comm,
                                  parts_->messages.get());
  saving_.tell(*log_);
  clock_ = Lap();
  const auto left = seconds_of_allocation();
  if (const double before = config.run.stop_before_end_seconds; left && before > 0) {
    stop_after_seconds_ = *left - std::min(before, *left / 4);
    if (is_root())
      spdlog::info("the SLURM job ends in {:.0f} s: saving and stopping after {:.0f} s, should no signal come", *left,
                   *stop_after_seconds_);
  }
}

bool Trainer::run_epoch() {
  VIXEN_CHECK(log_, "run_epoch() before start()");
  if (epoch_ >= parts_->config.train.epochs) return false;
  run_steps(parts_->planner->steps_per_epoch(), [this](const StepResult&) { after_step(); });
  return true;
}

int64_t Trainer::run_steps(int64_t steps, const std::function<void(const StepResult&)>& look) {
  const int64_t per_epoch = parts_->planner->steps_per_epoch();
  const auto order = epoch_order(*parts_, static_cast<uint64_t>(epoch_));
  const int64_t first = index_, last = std::min(per_epoch, index_ + steps);
  while (index_ < last) {
    mine_if_due();
    run_stretch(std::min(last, same_lists_until() - epoch_ * per_epoch), order.view(), look);
  }
  if (index_ == per_epoch) end_epoch();
  return last - first;
}

void Trainer::run_stretch(int64_t last, std::span<const int64_t> order,
                          const std::function<void(const StepResult&)>& look) {
  const auto& config = parts_->config;
  auto& step = *parts_->step;
  const auto& planner = *parts_->planner;
  const auto& sampler = *parts_->sampler;
  const auto epoch = static_cast<uint64_t>(epoch_);
  const auto first_step = epoch * static_cast<uint64_t>(planner.steps_per_epoch());
  // Lists of mined negatives lie on all ranks, and only this thread takes part in collectives: it fetches what the
  // batches to come offer while the device computes.
  Handover<std::vector<int64_t>> offers;
  const auto depth = std::max<int64_t>(1, config.data.prefetch);
  int64_t offered = index_;  // steps whose offers have been handed over
  const auto offer_up_to = [&](int64_t end) {
    for (; parts_->mined && offered < std::min(end, last); ++offered)
      offers.give(parts_->mined->offers(first_step + static_cast<uint64_t>(offered), planner.batch_of(offered, order)));
  };
  Prefetcher<StepInput> inputs(
      [&](int64_t index) {
        auto extra = sampler.extra_labels(epoch, index);
        auto most = static_cast<int64_t>(extra.size());
        if (parts_->mined) {
          const auto mined = offers.take();
          extra.insert(extra.end(), mined.begin(), mined.end());
          most += config.mining.columns;
        }
        return step.prepare(planner.plan(epoch, index, order, extra, most), parts_->dataset, parts_->pack);
      },
      index_, last, static_cast<size_t>(depth));
  const HandoverCloser closer(offers);  // before the thread that waits for offers is
  while (index_ < last) {
    set_activity_step(global_step() + 1);
    if (mining_) mining_->advance(global_step());
    const Lap lap;
    offer_up_to(index_ + depth + 2);
    const auto input = inputs.next();
    const double waited = lap.total();
    const double factor = lr_factor(global_step(), config.train.warmup_steps, total_steps());
    const bool logged = log_ && log_->due(global_step());
    auto result = step.accumulate(input, logged);
    step.update(factor, logged, result);
    ++index_;
    ++steps_here_;
    if (log_) log_->add(input, result, position(), waited, config.train.lr * factor);
    if (look) look(result);
  }
}

void Trainer::mine_if_due() {
  const int64_t now = global_step(), overlap = parts_->config.mining.overlap;
  if (mining_ && mining_->ends_at() == now) {
    mining_->finish();
    if (log_) log_->add_mining(position(), mining_->progress().counts, mining_->progress().seconds);
    mining_.reset();
  }
  if (!minings_.due(now)) return;
  const Lap lap;
  if (overlap > 0) {
    if (now + overlap >= total_steps()) return;  // no step would use the lists
    auto progress = MiningProgress::begin(*parts_, now, labels_to_mine(*parts_, !minings_.begun()));
    progress.seconds = lap.total();
    mining_ = std::make_unique<OverlappedMining>(*parts_, std::move(progress));
    minings_.record(now);
    return;
  }
  const auto counts = mine_negatives(*parts_, !minings_.begun(), [this] {
    saving_.look();  // a mining may take long: the checkpoint before it gets its name meanwhile
    return stop_agreed();
  });
  // What a checkpoint holds now is from before this mining: a run that goes on from it mines first, and finds the same.
  if (!counts) stop_here();
  minings_.record(now);
  if (log_) log_->add_mining(position(), *counts, lap.total());
}

int64_t Trainer::same_lists_until() const {
  const int64_t next = minings_.next(global_step());
  return mining_ ? std::min(next, mining_->ends_at()) : next;
}

RunPosition Trainer::position() const {
  const auto steps = static_cast<double>(parts_->planner->steps_per_epoch());
  return {global_step(), static_cast<double>(epoch_) + static_cast<double>(index_) / steps};
}

void Trainer::after_step() {
  // How many steps there are to be, every rank knows; what it was asked for meanwhile, it tells the others. Before the
  // passes at the end of an epoch, which may take long, they wait for one another.
  const auto limit = parts_->config.run.stop_after_steps;
  const bool pause = index_ == parts_->planner->steps_per_epoch();
  bool stop = stops(pause ? agreement_.settle() : agreement_.exchange(word()));
  if (pause) stop = stop_agreed() || stop;
  if (stop || (limit > 0 && steps_here_ >= limit)) stop_here();
  saving_.look();
  if (checkpoints_.due(global_step())) checkpoint();
}

void Trainer::stop_here() {
  agreement_.settle();
  if (log_) log_->finish();
  save();
  if (is_root())
    spdlog::warn("stopped on request after step {}; everything is saved: run the same command again to go on",
                 global_step());
  throw StoppedOnRequest{};
}

Trainer::Word Trainer::word() const {
  if (folder_lost_ && folder_lost_()) return kLost;
  const bool ends = stop_after_seconds_ && clock_.total() >= *stop_after_seconds_;
  return ends || stop_requested() != 0 ? kStop : kGoOn;
}

bool Trainer::stops(int64_t agreed) const {
  if (agreed == kLost)
    fail_user(
        "{}: another job has taken this run over (its lock is in the folder now): ending here, nothing is written",
        parts_->config.run.dir);
  return agreed == kStop;
}

bool Trainer::stop_agreed() {
  return stops(parts_->comm->max_host(word()));
}

void Trainer::check_folder() {
  stop_agreed();  // a wish to stop waits for the next step
}

void Trainer::end_epoch() {
  const bool more = epoch_ + 1 < parts_->config.train.epochs;
  parts_->sampler->end_epoch(static_cast<uint64_t>(epoch_), more, *parts_->bank, *parts_->comm);
  // After the last epoch finish() takes a fresh pass instead of the stale bank.
  if (more && parts_->prototypes)
    update_centroids(parts_->prototypes->centroids(), *parts_->bank, parts_->queries_of_label.view(), *parts_->comm);
  ++epoch_;
  index_ = 0;
}

void Trainer::record_evaluation(const std::map<std::string, double>& metrics) {
  const double value = evaluations_.record(metrics, static_cast<uint64_t>(global_step()));
  if (is_root())
    spdlog::info("epoch {}: {} {:.2f} (best {:.2f})", epoch_, parts_->config.train.best_metric, value,
                 *evaluations_.best());
  if (log_) log_->add_evaluation(position(), metrics);
}

at::Tensor Trainer::finish() {
  agreement_.settle();
  if (log_) log_->finish();
  mining_.reset();
  last_pass(*parts_);
  auto labels = label_representations();
  check_folder();
  saving_.require();
  return labels;
}

void Trainer::record_final(std::map<std::string, double>& metrics) {
  check_folder();  // the evaluation may have taken long
  if (log_) log_->add_evaluation(position(), metrics);
  metrics["seconds"] = seconds();
}

double Trainer::seconds() const {
  return seconds_before_ + clock_.total();
}

}  // namespace vixen
