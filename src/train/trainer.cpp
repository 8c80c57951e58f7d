// The training loop: epochs, logging, what happens at the end of an epoch and of the run.
#include "train/trainer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/stop.hpp"
#include "cluster/balanced_two_means.hpp"
#include "comm/on_root.hpp"
#include "data/prefetcher.hpp"
#include "device/device.hpp"
#include "kernels/pooling.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/make_encoder.hpp"
#include "model/weight_fingerprint.hpp"
#include "train/centroids.hpp"
#include "train/pack_options.hpp"

namespace vixen {
namespace {

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

Trainer::Trainer(const Config& config, const Dataset& dataset, std::vector<double> inverse_propensity,
                 std::shared_ptr<Communicator> comm, TrainerHooks hooks)
    : config_(config),
      dataset_(&dataset),
      comm_(std::move(comm)),
      hooks_(std::move(hooks)),
      cluster_size_(config.cluster.size) {
  config_.lora = with_adapter_settings(config.lora);
  if (config.train.batch_size < comm_->world_size())
    fail_user("train.batch_size is {}, but there are {} ranks: every rank needs a row, so use at least {}",
              config.train.batch_size, comm_->world_size(), comm_->world_size());
  if (!config.run.dir.empty()) on_root(*comm_, [&] { make_folder(config_.run.dir); });

  encoder_ = make_encoder({config_.model, config_.lora, image_width(config_, dataset)}, store_);
  pack_ = vixen::pack_options(config_, *encoder_, dataset);
  check_fits(*encoder_, dataset, pack_);
  encoder_->files().check();
  if (config.train.method == Method::kPrime)
    prototypes_ = std::make_unique<LabelPrototypes>(config, dataset.labels().size(), encoder_->width(), store_, *comm_);
  choose_memory();
  if (prototypes_) prototypes_->allocate(memory_.choice.tables);
  store_.allocate(comm_->device(), config.model.compute == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat);
  base_fingerprint_ = weight_fingerprint(config_.model.path);
  if (!config_.lora.adapter.empty()) adapter_fingerprint_ = weight_fingerprint(config_.lora.adapter);
  encoder_->files().load(config.train.seed);
  bank_ = std::make_unique<ShardedTable>(*comm_, dataset.train().size(), encoder_->width(), at::kHalf,
                                         memory_.choice.tables);
  optimiser_ =
      std::make_unique<AdamW>(config.train, store_, prototypes_ ? prototypes_->free_vectors().local() : at::Tensor());
  step_ = std::make_unique<TrainStep>(config_, store_, *encoder_, prototypes_.get(), *bank_, *optimiser_,
                                      memory_.choice.chunks, *comm_);
  planner_ = std::make_unique<BatchPlanner>(dataset, std::move(inverse_propensity), config.train.batch_size,
                                            config.train.seed);
  queries_of_label_ = transpose(dataset.train_labels(), dataset.labels().size());
}

Trainer::~Trainer() = default;

void Trainer::choose_memory() {
  const auto shape = memory_shape(config_, data_shape(*dataset_, pack_), *encoder_, store_, comm_->world_size(),
                                  comm_->device().is_cpu());
  memory_ = plan_memory(shape, *encoder_, static_cast<int64_t>(config_.train.memory_gb * 1e9));
  encoder_->set_recompute_layers(memory_.choice.recompute_layers);
}

EncodePassOptions Trainer::encode_options(const std::string& label) const {
  EncodePassOptions options;
  options.pack = pack_;
  options.device = comm_->device();
  options.prefetch = config_.data.prefetch;
  if (is_root()) options.progress_label = label;
  return options;
}

at::Tensor Trainer::encode_labels(const std::string& label) {
  const auto range = RowShards(dataset_->labels().size(), comm_->world_size()).range(comm_->rank());
  return encode_rows(*encoder_, dataset_->labels(), dataset_->images(), range, encode_options(label));
}

void Trainer::refresh_bank(const std::string& label) {
  const auto range = bank_->local_range();
  encode_blocks(*encoder_, dataset_->train(), dataset_->images(), range, encode_options(label),
                [&](int64_t first, const at::Tensor& h) {
                  bank_->local().narrow(0, first - range.begin, h.size(0)).copy_(normalize_rows(h).y);
                });
}

at::Tensor Trainer::label_representations() {
  auto labels = encode_labels("encode labels");
  if (prototypes_) return prototypes_->representations(std::move(labels));
  for (int64_t first = 0; first < labels.size(0); first += RowShards::kBlockRows) {
    auto block = labels.narrow(0, first, std::min(RowShards::kBlockRows, labels.size(0) - first));
    block.copy_(normalize_rows(block).y);
  }
  return labels;
}

void Trainer::prepare() {
  if (!prototypes_) return;
  auto clock = std::chrono::steady_clock::now();
  const auto lap = [&clock](double& seconds) {
    const auto now = std::chrono::steady_clock::now();
    seconds = seconds_between(clock, now);
    clock = now;
  };
  auto u = encode_labels("first pass: labels");
  lap(first_pass_seconds_.labels);
  prototypes_->initialise(std::move(u), is_root());
  store_.refresh_compute();
  lap(first_pass_seconds_.clusters);
  refresh_bank("first pass: queries");
  lap(first_pass_seconds_.queries);
  update_centroids(prototypes_->centroids(), *bank_, queries_of_label_.view(), *comm_);
  lap(first_pass_seconds_.centroids);
  if (is_root())
    spdlog::info("first passes: labels {:.1f} s, free vectors {:.1f} s, queries {:.1f} s, centroids {:.1f} s",
                 first_pass_seconds_.labels, first_pass_seconds_.clusters, first_pass_seconds_.queries,
                 first_pass_seconds_.centroids);
}

void Trainer::start() {
  VIXEN_CHECK(!config_.run.dir.empty(), "a run needs a folder");
  if (!resume()) prepare();
}

std::map<std::string, double> Trainer::run() {
  if (is_root()) {
    log_ = std::make_unique<MetricsLog>(config_.run.dir, global_step());
    spdlog::info("{} queries, {} labels, {} steps of {} queries in {} epochs; label side {:.1f} MB on this rank of {}",
                 dataset_->train().size(), dataset_->labels().size(), total_steps(), config_.train.batch_size,
                 config_.train.epochs, static_cast<double>(label_side_bytes()) / 1e6, comm_->world_size());
    spdlog::info("{}", memory_table(memory_, encoder_->n_layers()));
  }
  interval_start_ = started_ = std::chrono::steady_clock::now();
  const auto n = dataset_->train().size();
  const int64_t queries_done = epoch_ * n + std::min(n, index_ * config_.train.batch_size);
  progress_ = std::make_unique<Progress>("train", "queries", config_.train.epochs * n - queries_done, is_root());
  while (epoch_ < config_.train.epochs) {
    run_steps(planner_->steps_per_epoch());
    if (epoch_ < config_.train.epochs) evaluate_epoch();
    save();
  }
  progress_->finish();
  return finish();
}

std::vector<double> Trainer::run_steps(int64_t steps) {
  const auto order = planner_->epoch_order(static_cast<uint64_t>(epoch_), leaves_);
  const auto epoch = static_cast<uint64_t>(epoch_);
  const int64_t last = std::min(planner_->steps_per_epoch(), index_ + steps);
  Prefetcher<StepInput> inputs(
      [&](int64_t index) { return step_->prepare(planner_->plan(epoch, index, order), *dataset_, pack_); }, index_,
      last, static_cast<size_t>(std::max<int64_t>(1, config_.data.prefetch)));
  std::vector<double> losses;
  while (index_ < last) {
    const auto before = std::chrono::steady_clock::now();
    const auto input = inputs.next();
    interval_.data_seconds += seconds_between(before, std::chrono::steady_clock::now());
    const double factor = lr_factor(global_step(), config_.train.warmup_steps, total_steps());
    const bool logs = (global_step() + 1) % config_.run.log_every_steps == 0;
    auto result = step_->accumulate(input);
    step_->update(factor, logs, result);
    ++index_;
    ++steps_here_;
    log_step(result, factor, static_cast<int64_t>(input.plan.query_rows.size()), input.n_positions(), logs);
    if (!progress_)
      losses.push_back(result.loss.item<double>());  // driven by hand: tests and benches look at every step
    if (progress_) after_step();
  }
  if (index_ == planner_->steps_per_epoch()) end_epoch();
  return losses;
}

void Trainer::after_step() {
  if (stop_agreed()) {
    progress_->finish();
    save();
    if (is_root())
      spdlog::warn("stopped on request after step {}; everything is saved: run the same command again to go on",
                   global_step());
    throw StoppedOnRequest{};
  }
  const auto every = config_.run.checkpoint_every_steps;
  if (every > 0 && global_step() % every == 0 && index_ < planner_->steps_per_epoch()) save();
}

bool Trainer::stop_agreed() {
  const bool limit = config_.run.stop_after_steps > 0 && steps_here_ >= config_.run.stop_after_steps;
  return folder_agreed(limit || stop_requested() != 0);
}

bool Trainer::folder_agreed(bool wants) {
  constexpr int64_t kNo = 0, kYes = 1, kLost = 2;
  const bool lost = hooks_.folder_lost && hooks_.folder_lost();
  const int64_t agreed = comm_->max_host(lost ? kLost : wants ? kYes : kNo);
  if (agreed == kLost)
    fail_user(
        "{}: another job has taken this run over (its lock is in the folder now): ending here, nothing is written",
        config_.run.dir);
  return agreed == kYes;
}

void Trainer::end_epoch() {
  const auto& curriculum = config_.cluster.double_at;
  if (std::find(curriculum.begin(), curriculum.end(), epoch_) != curriculum.end()) cluster_size_ *= 2;
  const bool more = epoch_ + 1 < config_.train.epochs;
  const int64_t since_start = epoch_ - config_.cluster.start_epoch;
  if (more && since_start >= 0 && since_start % config_.cluster.update_epochs == 0) {
    TwoMeansOptions options;
    options.depth = depth_for_cluster_size(dataset_->train().size(), cluster_size_);
    options.seed = config_.train.seed;
    options.epoch = static_cast<uint64_t>(epoch_);
    leaves_ = balanced_two_means(bank_->local(), bank_->shards(), options, *comm_);
  }
  // After the last epoch finish() takes a fresh pass instead of the stale bank.
  if (more && prototypes_) update_centroids(prototypes_->centroids(), *bank_, queries_of_label_.view(), *comm_);
  ++epoch_;
  index_ = 0;
}

void Trainer::evaluate_epoch() {
  const auto every = config_.train.evaluate_every_epochs;
  if (every <= 0 || epoch_ % every != 0 || !hooks_.evaluate) return;
  const auto metrics = hooks_.evaluate(*encoder_, label_representations());
  const auto found = metrics.find(config_.train.best_metric);
  if (found == metrics.end()) {
    fail_user("train.best_metric is '{}', which is not among the metrics (P@1, PSP@1, R@100, ...)",
              config_.train.best_metric);
  }
  if (!best_metric_ || found->second > *best_metric_) {
    best_metric_ = found->second;
    best_step_ = static_cast<uint64_t>(global_step());
  }
  if (!is_root()) return;
  spdlog::info("epoch {}: {} {:.2f} (best {:.2f})", epoch_, config_.train.best_metric, found->second, *best_metric_);
  nlohmann::json line = {{"step", global_step()}, {"epoch", epoch_}, {"metrics", metrics}};
  log_->write(line);
}

std::map<std::string, double> Trainer::finish() {
  if (prototypes_) {
    refresh_bank("last pass: queries");
    update_centroids(prototypes_->centroids(), *bank_, queries_of_label_.view(), *comm_);
  }
  const auto labels = label_representations();
  folder_agreed(false);
  if (hooks_.save_model) hooks_.save_model(*encoder_, labels);
  auto metrics = hooks_.evaluate ? hooks_.evaluate(*encoder_, labels) : std::map<std::string, double>{};
  folder_agreed(false);  // the evaluation may have taken long
  if (is_root() && log_) log_->write({{"step", global_step()}, {"epoch", epoch_}, {"metrics", metrics}});
  metrics["seconds"] = seconds_before_ + seconds_between(started_, std::chrono::steady_clock::now());
  return metrics;
}

void Trainer::log_step(const StepResult& result, double lr_factor, int64_t queries, int64_t positions, bool write) {
  const auto add = [](at::Tensor& sum, const at::Tensor& value) {
    if (value.defined()) sum = sum.defined() ? sum + value : value;
  };
  add(interval_.loss, result.loss);
  add(interval_.loss_u, result.loss_u);
  add(interval_.loss_uv, result.loss_uv);
  add(interval_.loss_i, result.loss_i);
  add(interval_.loss_r, result.loss_r);
  ++interval_.steps;
  interval_.queries += queries;
  interval_.positions += positions;
  interval_.forward_seconds += result.forward_seconds;
  interval_.collective_seconds += result.collective_seconds;
  interval_.backward_seconds += result.backward_seconds;
  interval_.optimiser_seconds += result.optimiser_seconds;
  if (progress_) progress_->advance(queries);
  if (!write) return;

  // Positions of all ranks; the host waits for the device here, once an interval.
  const int64_t all_positions = comm_->sum_host(interval_.positions);
  const double loss = interval_.loss.item<double>() / static_cast<double>(interval_.steps);
  if (!std::isfinite(loss))
    fail_user("{}: the loss is {} at step {}: lower the learning rates or use fp32", config_.run.dir, loss,
              global_step());
  if (is_root() && log_) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = seconds_between(interval_start_, now);
    const auto steps = static_cast<double>(interval_.steps);
    const auto mean = [&](const at::Tensor& sum) { return sum.item<double>() / steps; };
    nlohmann::json line = {
        {"step", global_step()},
        {"epoch",
         static_cast<double>(epoch_) + static_cast<double>(index_) / static_cast<double>(planner_->steps_per_epoch())},
        {"loss", loss},
        {"lr", config_.train.lr * lr_factor},
        {"queries_per_s", static_cast<double>(interval_.queries) / seconds},
        {"tokens_per_s", static_cast<double>(all_positions) / seconds}};
    if (interval_.loss_u.defined()) line["loss_u"] = mean(interval_.loss_u);
    if (interval_.loss_uv.defined()) line["loss_uv"] = mean(interval_.loss_uv);
    if (interval_.loss_i.defined()) line["loss_i"] = mean(interval_.loss_i);
    if (interval_.loss_r.defined()) line["loss_r"] = mean(interval_.loss_r);
    if (result.grad_norm.defined()) line["grad_norm"] = result.grad_norm.item<double>();
    const auto memory = memory_use(comm_->device());
    line[comm_->device().is_cuda() ? "gpu_memory_bytes" : "host_memory_bytes"] = memory.peak_bytes;
    line["tensor_bytes_peak"] = memory.peak_tensor_bytes;
    line["seconds"] = {{"data", interval_.data_seconds / steps},
                       {"forward", interval_.forward_seconds / steps},
                       {"collectives", interval_.collective_seconds / steps},
                       {"backward", interval_.backward_seconds / steps},
                       {"optimiser", interval_.optimiser_seconds / steps},
                       {"step", seconds / steps}};
    log_->write(line);
    progress_->note(fmt::format("epoch {}/{} loss {:.4f}", epoch_ + 1, config_.train.epochs, loss));
    interval_start_ = now;
  }
  interval_ = Interval{};
}

}  // namespace vixen
