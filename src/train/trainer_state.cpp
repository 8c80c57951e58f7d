// What of a run is saved, and how a run is taken up again.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <sstream>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "config/parse.hpp"
#include "data/dataset_identity.hpp"
#include "model/weight_fingerprint.hpp"
#include "train/checkpoint_files.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

// The settings that a run may not change between its parts: all that decide its numbers.
std::string decisive_settings(const Config& config) {
  Config kept;
  kept.data.images = config.data.images;
  kept.data.propensity_a = config.data.propensity_a;
  kept.data.propensity_b = config.data.propensity_b;
  kept.model = config.model;
  kept.model.path.clear();
  kept.train = config.train;
  kept.train.evaluate_every_epochs = TrainConfig{}.evaluate_every_epochs;
  kept.train.best_metric = TrainConfig{}.best_metric;
  // How memory is kept changes no number beyond rounding.
  kept.train.memory_gb = TrainConfig{}.memory_gb;
  kept.train.chunks = TrainConfig{}.chunks;
  kept.train.recompute_layers = TrainConfig{}.recompute_layers;
  kept.train.tables = TrainConfig{}.tables;
  kept.lora = config.lora;
  kept.lora.adapter.clear();  // where training started, which the checkpoint holds
  kept.prompt = config.prompt;
  kept.loss = config.loss;
  kept.prototype = config.prototype;
  kept.cluster = config.cluster;
  kept.compat = config.compat;
  return to_ini(kept, /*only_changed=*/false);
}

// Counts make a clear message, contents a sure one.
nlohmann::json describe_dataset(const Dataset& dataset) {
  nlohmann::json counts = {{"train", dataset.train().size()},
                           {"labels", dataset.labels().size()},
                           {"pairs", dataset.train_labels().values.size()},
                           {"tokens", dataset.train().tokens.values.size()},
                           {"images", dataset.images().n_rows},
                           {"tokenizer_sha256", dataset.info().tokenizer_sha256}};
  for (const auto& part : identity_parts()) counts[identity_attribute(part)] = dataset.identity().*part.member;
  return counts;
}

void check_dataset(const nlohmann::json& saved, const Dataset& dataset, const std::filesystem::path& folder) {
  const auto found = describe_dataset(dataset);
  const auto path = dataset.path().string();
  for (const char* count : {"train", "labels", "pairs", "tokens", "images", "tokenizer_sha256"})
    if (saved.at(count) != found.at(count))
      fail_user("{}: the checkpoint was made on a data set with {} {}, {} has {}", folder.string(),
                saved.at(count).dump(), count, path, found.at(count).dump());
  for (const auto& part : identity_parts()) {
    const std::string key = identity_attribute(part);
    if (!saved.contains(key) || saved.at(key) == found.at(key)) continue;  // older checkpoints do not say
    fail_user(
        "{}: the checkpoint was made on a data set with other {} (content {}), {} has {}: use the same data set, or "
        "another --run.dir",
        folder.string(), part.words, saved.at(key).get<std::string>(), path, found.at(key).get<std::string>());
  }
}

// Names the first key on which the settings of a checkpoint and those asked for differ. Keys that the checkpoint does
// not know yet had their defaults.
void check_settings(const std::string& saved_text, const std::string& asked, const std::filesystem::path& folder) {
  Config saved_config;
  apply_ini(saved_config, saved_text, folder.string());
  const std::string saved = to_ini(saved_config, /*only_changed=*/false);
  std::istringstream saved_lines(saved), asked_lines(asked);
  std::string was, is, section;
  while (std::getline(saved_lines, was) && std::getline(asked_lines, is)) {
    if (was == is) {
      if (!was.empty() && was.front() == '[') section = was.substr(1, was.find(']') - 1) + ".";
      continue;
    }
    fail_user(
        "{}: the checkpoint was made with {}{}, the command asks for {}{}: use the same value, or another --run.dir",
        folder.string(), section, was, section, is);
  }
}

// The weights that a run began with, or that lie frozen beside its adapters. `key`: "base" or "adapter".
void check_weights(const nlohmann::json& scalars, const char* key, const std::string& option, const std::string& path,
                   const std::filesystem::path& folder) {
  // Absent: of a version that did not write it, or of a run without one. Empty: the command names none.
  if (!scalars.contains(key) || path.empty()) return;
  const std::string part = fingerprint_difference(scalars.at(key), weight_fingerprint(path));
  if (!part.empty())
    fail_user("{}: the checkpoint was made with another {} model, {} of {} is not the same: use the same {}",
              folder.string(), key, part, path, option);
}

}  // namespace

CheckpointState Trainer::state() {
  CheckpointState state = tensors();
  state.step = static_cast<uint64_t>(global_step());
  state.scalars = {{"epoch", epoch_},
                   {"index", index_},
                   {"cluster_size", cluster_size_},
                   {"optimiser_steps", optimiser_->steps_done()},
                   {"has_leaves", leaves_.defined()},
                   {"settings", decisive_settings(config_)},
                   {"dataset", describe_dataset(*dataset_)},
                   {"base", base_fingerprint_},
                   {"seconds", seconds_before_ +
                                   std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count()}};
  if (!adapter_fingerprint_.is_null()) state.scalars["adapter"] = adapter_fingerprint_;
  if (best_metric_) {
    state.scalars["best_metric"] = *best_metric_;
    state.scalars["best_step"] = *best_step_;
  }
  return state;
}

CheckpointState Trainer::tensors() {
  CheckpointState state;
  state.dense["parameters"] = store_.flat_values();
  state.dense["exp_avg"] = optimiser_->exp_avg();
  state.dense["exp_avg_sq"] = optimiser_->exp_avg_sq();
  if (leaves_.defined()) state.dense["leaves"] = leaves_;
  state.tables["bank"] = {bank_->shards(), bank_->local()};
  if (prototypes_) {
    auto& free = prototypes_->free_vectors();
    state.dense["cluster_of_label"] = prototypes_->cluster_of_label();
    state.tables["free_vectors"] = {free.shards(), free.local()};
    state.tables["free_vectors.exp_avg"] = {free.shards(), optimiser_->table_exp_avg()};
    state.tables["free_vectors.exp_avg_sq"] = {free.shards(), optimiser_->table_exp_avg_sq()};
    state.tables["centroids"] = {prototypes_->centroids().shards(), prototypes_->centroids().local()};
  }
  return state;
}

void Trainer::adopt(const CheckpointState& state, const std::filesystem::path& folder) {
  const auto& scalars = state.scalars;
  const auto dense = [&](const char* name) -> const at::Tensor& {
    const auto found = state.dense.find(name);
    if (found == state.dense.end())
      fail_user("{}: damaged: has no tensor {}, expected one", (folder / checkpoint::kDense).string(), name);
    return found->second;
  };
  const auto restore = [&](at::Tensor target, const char* name) {
    const at::Tensor& saved = dense(name);
    if (saved.sizes() != target.sizes())
      fail_user("{}: damaged: tensor {} has shape [{}], expected [{}]", (folder / checkpoint::kDense).string(), name,
                fmt::join(saved.sizes(), ", "), fmt::join(target.sizes(), ", "));
    target.copy_(saved);
  };
  epoch_ = scalars.at("epoch").get<int64_t>();
  index_ = scalars.at("index").get<int64_t>();
  cluster_size_ = scalars.at("cluster_size").get<int64_t>();
  optimiser_->set_steps_done(scalars.at("optimiser_steps").get<int64_t>());
  seconds_before_ = scalars.at("seconds").get<double>();
  if (scalars.contains("best_metric")) {
    best_metric_ = scalars.at("best_metric").get<double>();
    best_step_ = scalars.at("best_step").get<uint64_t>();
  }
  restore(store_.flat_values(), "parameters");
  restore(optimiser_->exp_avg(), "exp_avg");
  restore(optimiser_->exp_avg_sq(), "exp_avg_sq");
  if (scalars.at("has_leaves").get<bool>()) leaves_ = dense("leaves").clone();
  bank_->local().copy_(state.tables.at("bank").local);
  if (prototypes_) {
    prototypes_->cluster_of_label() = dense("cluster_of_label").clone();
    prototypes_->free_vectors().local().copy_(state.tables.at("free_vectors").local);
    optimiser_->table_exp_avg().copy_(state.tables.at("free_vectors.exp_avg").local);
    optimiser_->table_exp_avg_sq().copy_(state.tables.at("free_vectors.exp_avg_sq").local);
    prototypes_->centroids().local().copy_(state.tables.at("centroids").local);
  }
  store_.refresh_compute();
}

bool Trainer::resume() {
  // Rank 0 chooses, so that all read the same one.
  const auto newest = is_root() && config_.run.resume ? newest_checkpoint(config_.run.dir) : std::nullopt;
  const std::filesystem::path folder = comm_->broadcast_host(newest ? newest->string() : std::string(), 0);
  if (folder.empty()) return false;
  try {
    resume_from(folder);
  } catch (const nlohmann::json::exception& error) {  // a value that is absent, or of another type
    fail_user("{}: {}: not what this version of `vixen train` writes", (folder / checkpoint::kManifest).string(),
              error.what());
  }
  if (is_root())
    spdlog::info("resuming from {} (epoch {}, step {} of {})", folder.string(), epoch_ + 1, global_step(),
                 total_steps());
  return true;
}

void Trainer::resume_from(const std::filesystem::path& folder) {
  const auto manifest = read_manifest(folder, /*verify=*/false);
  const auto& scalars = manifest.at("scalars");
  check_settings(scalars.at("settings").get<std::string>(), decisive_settings(config_), folder);
  check_weights(scalars, "base", "--model.path", config_.model.path, folder);
  check_weights(scalars, "adapter", "--lora.adapter", config_.lora.adapter, folder);
  check_dataset(scalars.at("dataset"), *dataset_, folder);
  // What the run began with, also where this command does not name it any more.
  if (scalars.contains("adapter")) adapter_fingerprint_ = scalars.at("adapter");

  auto loaded = tensors();
  load_checkpoint(folder, loaded, *comm_);
  adopt(loaded, folder);
}

void Trainer::save() {
  folder_agreed(false);
  save_checkpoint(config_.run.dir, state(), *comm_);
  if (is_root()) prune_checkpoints(config_.run.dir, config_.run.keep_last, best_step_);
}

int64_t Trainer::checkpoint_bytes() {
  const auto now = tensors();
  const auto bytes = [](const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); };
  int64_t own = 0;
  for (const auto& [name, table] : now.tables) own += bytes(table.local);
  if (is_root())  // one rank writes what all have
    for (const auto& [name, tensor] : now.dense) own += bytes(tensor);
  return comm_->sum_host(own);
}

int64_t Trainer::most_checkpoints() const {
  const auto every = config_.run.checkpoint_every_steps;
  const int64_t an_epoch = every > 0 ? std::max<int64_t>(1, planner_->steps_per_epoch() / every) : 1;
  const int64_t written = config_.train.epochs * an_epoch;
  constexpr int64_t kBestAndNew = 2;
  return std::min(written, config_.run.keep_last + kBestAndNew);
}

int64_t Trainer::label_side_bytes() const {
  if (!prototypes_) return 0;
  const auto bytes = [](const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); };
  // Free vectors, their two moments and their gradient; centroids.
  return 4 * bytes(prototypes_->free_vectors().local()) + bytes(prototypes_->centroids().local());
}

}  // namespace vixen
