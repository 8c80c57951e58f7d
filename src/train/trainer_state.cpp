// What of a run is saved, and how a run is taken up again.
#include <ATen/ATen.h>

#include <sstream>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"
#include "config/parse.hpp"
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

nlohmann::json dataset_identity(const Dataset& dataset) {
  return {{"train", dataset.train().size()},
          {"labels", dataset.labels().size()},
          {"pairs", dataset.train_labels().values.size()},
          {"tokens", dataset.train().tokens.values.size()},
          {"images", dataset.images().n_rows},
          {"tokenizer_sha256", dataset.info().tokenizer_sha256}};
}

// The frozen or initial weights by what is cheap to read: config.json and the sizes of the weight files.
nlohmann::json base_identity(const std::filesystem::path& folder) {
  const MappedFile file(folder / "config.json");
  nlohmann::json weights = nlohmann::json::object();
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("model") && name.ends_with(".safetensors"))
      weights[name] = static_cast<int64_t>(std::filesystem::file_size(entry.path()));
  }
  return {{"config_sha256", sha256(file.bytes())}, {"weights", weights}};
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

void check_base(const nlohmann::json& scalars, const std::string& model_path, const std::filesystem::path& folder) {
  if (!scalars.contains("base")) return;  // of a version that did not write it
  const auto& saved = scalars.at("base");
  const auto found = base_identity(model_path);
  for (const char* part : {"config_sha256", "weights"}) {
    if (saved.at(part) == found.at(part)) continue;
    fail_user("{}: the checkpoint was made with another base model ({} {}), {} has {}: use the same --model.path",
              folder.string(), part, saved.at(part).dump(), model_path, found.at(part).dump());
  }
}

}  // namespace

CheckpointState Trainer::state() {
  CheckpointState state;
  state.step = static_cast<uint64_t>(global_step());
  state.scalars = {{"epoch", epoch_},
                   {"index", index_},
                   {"cluster_size", cluster_size_},
                   {"optimiser_steps", optimiser_->steps_done()},
                   {"has_leaves", leaves_.defined()},
                   {"settings", decisive_settings(config_)},
                   {"dataset", dataset_identity(*dataset_)},
                   {"base", base_identity(config_.model.path)},
                   {"seconds", seconds_before_ +
                                   std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count()}};
  if (best_metric_) {
    state.scalars["best_metric"] = *best_metric_;
    state.scalars["best_step"] = *best_step_;
  }
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

void Trainer::adopt(const CheckpointState& state) {
  const auto& scalars = state.scalars;
  epoch_ = scalars.at("epoch").get<int64_t>();
  index_ = scalars.at("index").get<int64_t>();
  cluster_size_ = scalars.at("cluster_size").get<int64_t>();
  optimiser_->set_steps_done(scalars.at("optimiser_steps").get<int64_t>());
  seconds_before_ = scalars.at("seconds").get<double>();
  if (scalars.contains("best_metric")) {
    best_metric_ = scalars.at("best_metric").get<double>();
    best_step_ = scalars.at("best_step").get<uint64_t>();
  }
  store_.flat_values().copy_(state.dense.at("parameters"));
  optimiser_->exp_avg().copy_(state.dense.at("exp_avg"));
  optimiser_->exp_avg_sq().copy_(state.dense.at("exp_avg_sq"));
  if (scalars.at("has_leaves").get<bool>()) leaves_ = state.dense.at("leaves").clone();
  bank_->local().copy_(state.tables.at("bank").local);
  if (prototypes_) {
    prototypes_->cluster_of_label() = state.dense.at("cluster_of_label").clone();
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
  const auto manifest = read_manifest(folder, /*verify=*/false);
  const auto& scalars = manifest.at("scalars");
  check_settings(scalars.at("settings").get<std::string>(), decisive_settings(config_), folder);
  check_base(scalars, config_.model.path, folder);
  const auto identity = dataset_identity(*dataset_);
  for (const auto& [key, value] : identity.items())
    if (scalars.at("dataset").at(key) != value)
      fail_user("{}: the checkpoint was made on a data set with {} {}, {} has {}", folder.string(),
                scalars.at("dataset").at(key).dump(), key, dataset_->path().string(), value.dump());

  auto loaded = state();
  load_checkpoint(folder, loaded, *comm_);
  adopt(loaded);
  if (is_root())
    spdlog::info("resuming from {} (epoch {}, step {} of {})", folder.string(), epoch_ + 1, global_step(),
                 total_steps());
  return true;
}

void Trainer::save() {
  save_checkpoint(config_.run.dir, state(), *comm_);
  if (is_root()) prune_checkpoints(config_.run.dir, config_.run.keep_last, best_step_);
}

int64_t Trainer::label_side_bytes() const {
  if (!prototypes_) return 0;
  const auto bytes = [](const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); };
  // Free vectors, their two moments and their gradient; centroids.
  return 4 * bytes(prototypes_->free_vectors().local()) + bytes(prototypes_->centroids().local());
}

}  // namespace vixen
