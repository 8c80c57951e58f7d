// vixen train: from a data set and a backbone to a run folder with checkpoints, metrics and the finished model.
#include <ATen/ATen.h>

#include <filesystem>
#include <optional>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/made_folder.hpp"
#include "base/run_lock.hpp"
#include "base/standard_streams.hpp"
#include "base/stop.hpp"
#include "base/version.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/run_origin.hpp"
#include "commands/sharded_output.hpp"
#include "commands/test_split.hpp"
#include "config/parse.hpp"
#include "eval/evaluator.hpp"
#include "model/folder_settings.hpp"
#include "model/weights/safetensors.hpp"
#include "train/checkpoint_files.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

// model/ appears whole: written aside by rank 0 (rows of the label side come from all ranks), then put in place.
void save_model(const Config& config, const EncoderFiles& files, const ParameterStore& store, const at::Tensor& labels,
                const RunOrigin& origin, int64_t n_labels, Communicator& comm) {
  std::optional<FolderWriter> writer;
  on_root(comm, [&] {
    writer.emplace(model_folder(config.run.dir), created_by("train"), "trained model");
    files.save(writer->folder());
    std::map<std::string, at::Tensor> prototype;
    for (int i = 0; i < store.count(); ++i)
      if (store.info(i).name.starts_with("prototype.")) prototype[store.info(i).name] = store.value(i);
    if (!prototype.empty()) write_safetensors(writer->folder() / "prototype.safetensors", prototype);
  });
  const auto file = writer ? writer->folder() / "label_embeddings.h5" : std::filesystem::path();
  write_sharded(file, {{"/embeddings", {labels, at::kFloat}}}, RowShards(n_labels, comm.world_size()), comm,
                {{"created_by", created_by("train")}});
  on_root(comm, [&] {
    const auto kept = writer->publish(to_json(origin));
    if (!kept.empty())
      spdlog::warn("{} held files that vixen did not write: they are kept in {}", model_folder(config.run.dir).string(),
                   kept.string());
  });
}

// The run folder, held by this job alone from here to the end of the command. Rank 0 has the lock. Collective.
std::unique_ptr<RunLock> take_run_folder(const Config& config, Communicator& comm) {
  std::unique_ptr<RunLock> lock;
  on_root(comm, [&] {
    const std::filesystem::path folder = config.run.dir;
    make_folder(folder);
    RunLock::Options options;
    options.say = [](const std::string& line) { spdlog::warn("{}", line); };
    lock = std::make_unique<RunLock>(folder, options);
    if (folder_made_by(folder).empty()) write_folder_marker(folder, created_by("train"), "run");
  });
  return lock;
}

// Checkpoints and the finished model, before the first pass; what an earlier part of the run has written counts as
// room. Collective.
void check_room_for_run(const Config& config, Trainer& trainer, const Dataset& dataset, Communicator& comm) {
  const int64_t checkpoint = trainer.checkpoint_bytes();
  const int64_t model = dataset.labels().size() * trainer.encoder().width() * static_cast<int64_t>(sizeof(float)) +
                        trainer.store().elements() * static_cast<int64_t>(sizeof(float));
  on_root(comm, [&] {
    const auto there = static_cast<int64_t>(checkpoint::complete_steps(config.run.dir).size());
    const int64_t more = std::max<int64_t>(trainer.most_checkpoints() - there, 1);
    check_room(config.run.dir, more * checkpoint + model,
               fmt::format("{} checkpoint{} and the model", more, more == 1 ? "" : "s"));
  });
}

}  // namespace

int train_command(const Config& asked, MpiSession& session) {
  install_stop_handlers();
  const std::shared_ptr<Communicator> comm = start_job(asked, session);
  Config config = asked;
  if (config.run.dir.empty()) fail_user("--run.dir is missing: give the folder that the run writes to");
  const auto dataset = open_dataset(config);
  config.model = with_folder_settings(asked.model, asked.lora);  // the run records what it was trained with
  const auto lock = take_run_folder(config, *comm);
  auto trainer = std::unique_ptr<Trainer>();
  TrainerHooks hooks;
  std::vector<Metrics::Bin> bins;
  hooks.evaluate = [&](Encoder& encoder, const at::Tensor& labels) {
    return evaluate_test_split(encoder, labels, *dataset, config, *comm, &bins);
  };
  hooks.save_model = [&](Encoder&, const at::Tensor& labels) {
    const bool adapters = config.lora.rank > 0 || !config.lora.adapter.empty();
    const RunOrigin origin{config.data.path, dataset->identity(), adapters ? trainer->base_fingerprint() : nullptr};
    save_model(config, trainer->encoder().files(), trainer->store(), labels, origin, dataset->labels().size(), *comm);
  };
  hooks.folder_lost = [&] { return lock != nullptr && lock->lost(); };
  trainer = std::make_unique<Trainer>(config, *dataset, label_weights(config, *dataset), comm, std::move(hooks));
  check_room_for_run(config, *trainer, *dataset, *comm);
  trainer->start();
  log_cpus(config, session);
  // Only now: a command that contradicts the run's checkpoint has failed above and left the run's own settings alone.
  on_root(*comm, [&] {
    write_text_atomically(std::filesystem::path(config.run.dir) / "config.ini", to_ini(config, /*only_changed=*/false));
  });
  const auto metrics = trainer->run();
  on_root(*comm, [&] {
    write_metrics_json(std::filesystem::path(config.run.dir) / "metrics.json", metrics);
    print_out("{}{}", metrics_table(metrics), bins_table(bins));
    spdlog::info("model in {}, metrics in {}/metrics.json", model_folder(config.run.dir).string(), config.run.dir);
  });
  return 0;
}

}  // namespace vixen
