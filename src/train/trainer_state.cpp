// What of a run is saved, and how a run is taken up again.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <sstream>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "config/parse.hpp"
#include "config/run_settings.hpp"
#include "data/dataset_identity.hpp"
#include "model/weight_fingerprint.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

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
                   {"optimiser_steps", parts_->optimiser->steps_done()},
                   {"settings", decisive_settings(parts_->config)},
                   {"dataset", describe_dataset(parts_->dataset)},
                   {"base", parts_->base_fingerprint},
                   {"seconds", seconds()}};
  state.scalars.update(parts_->sampler->state().scalars);
  if (!parts_->adapter_fingerprint.is_null()) state.scalars["adapter"] = parts_->adapter_fingerprint;
  evaluations_.save(state.scalars);
  minings_.save(state.scalars);
  if (mining_) mining_->progress().save(state.scalars);
  return state;
}

CheckpointState Trainer::tensors() {
  auto& optimiser = *parts_->optimiser;
  CheckpointState state;
  state.dense = parts_->sampler->state().dense;
  state.dense["parameters"] = parts_->store.flat_values();
  state.dense["exp_avg"] = optimiser.exp_avg();
  state.dense["exp_avg_sq"] = optimiser.exp_avg_sq();
  state.tables["bank"] = {parts_->bank->shards(), parts_->bank->local()};
  if (auto& label_bank = parts_->label_bank) state.tables["label_bank"] = {label_bank->shards(), label_bank->local()};
  if (auto& mined = parts_->mined) {
    state.tables["mined"] = {mined->shards(), mined->ids()};
    if (mined->scores().defined()) state.tables["mined.scores"] = {mined->shards(), mined->scores()};
  }
  if (mining_) mining_->progress().add_tables(state);
  if (auto* prototypes = parts_->prototypes.get()) {
    auto& free = prototypes->free_vectors();
    state.dense["cluster_of_label"] = prototypes->cluster_of_label().tensor();
    state.tables["free_vectors"] = {free.shards(), free.local()};
    state.tables["free_vectors.exp_avg"] = {free.shards(), optimiser.table_exp_avg()};
    state.tables["free_vectors.exp_avg_sq"] = {free.shards(), optimiser.table_exp_avg_sq()};
    state.tables["centroids"] = {prototypes->centroids().shards(), prototypes->centroids().local()};
  }
  return state;
}

void Trainer::adopt(const CheckpointState& state, const std::filesystem::path& folder) {
  const auto& scalars = state.scalars;
  const auto file = (folder / checkpoint::kDense).string();
  const auto dense = [&](const char* name) -> const at::Tensor& {
    const auto found = state.dense.find(name);
    if (found == state.dense.end()) fail_user("{}: damaged: has no tensor {}, expected one", file, name);
    return found->second;
  };
  const auto restore = [&](at::Tensor target, const char* name) {
    const at::Tensor& saved = dense(name);
    if (saved.sizes() != target.sizes())
      fail_user("{}: damaged: tensor {} has shape [{}], expected [{}]", file, name, fmt::join(saved.sizes(), ", "),
                fmt::join(target.sizes(), ", "));
    target.copy_(saved);
  };
  auto& optimiser = *parts_->optimiser;
  epoch_ = scalars.at("epoch").get<int64_t>();
  index_ = scalars.at("index").get<int64_t>();
  optimiser.set_steps_done(scalars.at("optimiser_steps").get<int64_t>());
  seconds_before_ = scalars.at("seconds").get<double>();
  evaluations_.restore(scalars);
  minings_.restore(scalars);
  restore(parts_->store.flat_values(), "parameters");
  restore(optimiser.exp_avg(), "exp_avg");
  restore(optimiser.exp_avg_sq(), "exp_avg_sq");
  try {
    parts_->sampler->restore({scalars, state.dense}, *parts_->comm);
  } catch (const UserError& error) {
    fail_user("{}: {}", file, error.what());
  }
  parts_->bank->local().copy_(state.tables.at("bank").local);
  if (auto& label_bank = parts_->label_bank) label_bank->local().copy_(state.tables.at("label_bank").local);
  if (auto& mined = parts_->mined) {
    mined->ids().copy_(state.tables.at("mined").local);
    if (mined->scores().defined()) mined->scores().copy_(state.tables.at("mined.scores").local);
  }
  if (auto* prototypes = parts_->prototypes.get()) {
    const at::Tensor& clusters = dense("cluster_of_label");
    const int64_t labels = parts_->dataset.labels().size();
    if (clusters.sizes() != at::IntArrayRef{labels})
      fail_user("{}: damaged: tensor cluster_of_label has {} rows, expected {}", file, clusters.numel(), labels);
    prototypes->set_cluster_of_label(shared_ints(clusters, *parts_->comm));
    prototypes->free_vectors().local().copy_(state.tables.at("free_vectors").local);
    optimiser.table_exp_avg().copy_(state.tables.at("free_vectors.exp_avg").local);
    optimiser.table_exp_avg_sq().copy_(state.tables.at("free_vectors.exp_avg_sq").local);
    prototypes->centroids().local().copy_(state.tables.at("centroids").local);
  }
  parts_->store.refresh_compute();
}

bool Trainer::resume() {
  // Rank 0 chooses, so that all read the same one.
  const auto& run = parts_->config.run;
  const auto newest = is_root() && run.resume ? newest_checkpoint(run.dir) : std::nullopt;
  const std::filesystem::path folder = parts_->comm->broadcast_host(newest ? newest->string() : std::string(), 0);
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
  const auto& config = parts_->config;
  const auto manifest = read_manifest(folder, /*verify=*/false);
  const auto& scalars = manifest.at("scalars");
  check_settings(scalars.at("settings").get<std::string>(), decisive_settings(config), folder);
  check_weights(scalars, "base", "--model.path", config.model.path, folder);
  check_weights(scalars, "adapter", "--lora.adapter", config.lora.adapter, folder);
  check_dataset(scalars.at("dataset"), parts_->dataset, folder);
  // What the run began with, also where this command does not name it any more.
  if (scalars.contains("adapter")) parts_->adapter_fingerprint = scalars.at("adapter");

  auto loaded = tensors();
  auto mining = MiningProgress::restore(scalars, *parts_);
  if (mining) mining->add_tables(loaded);
  load_checkpoint(folder, loaded, *parts_->comm);
  adopt(loaded, folder);
  if (mining) mining_ = std::make_unique<OverlappedMining>(*parts_, std::move(*mining));
}

void Trainer::begin_checkpoint(bool is_last) {
  check_folder();
  // Whether a disk takes it or not: a run that goes on from an earlier one comes by here, too.
  parts_->step->forget_rounding_error();
  saving_.begin(state(), position(), evaluations_.best_step(), is_last);
}

void Trainer::checkpoint() {
  begin_checkpoint(/*is_last=*/epoch_ == parts_->config.train.epochs);
}

void Trainer::save() {
  begin_checkpoint(/*is_last=*/true);
  saving_.require();
}

int64_t Trainer::checkpoint_bytes() {
  const auto now = tensors();
  const auto bytes = [](const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); };
  int64_t own = 0;
  for (const auto& [name, table] : now.tables) own += bytes(table.local);
  if (is_root())  // one rank writes what all have
    for (const auto& [name, tensor] : now.dense) own += bytes(tensor);
  if (is_root() && !mining_) own += MiningProgress::checkpoint_bytes(*parts_);
  return parts_->comm->sum_host(own);
}

}  // namespace vixen
