// vixen train: from a data set and a backbone to a run folder with checkpoints, metrics and the finished model.
#include <ATen/ATen.h>

#include <filesystem>
#include <optional>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/made_folder.hpp"
#include "base/progress.hpp"
#include "base/run_lock.hpp"
#include "base/standard_streams.hpp"
#include "base/version.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/query_bank.hpp"
#include "commands/run_origin.hpp"
#include "commands/sharded_output.hpp"
#include "commands/test_split.hpp"
#include "config/parse.hpp"
#include "eval/evaluator.hpp"
#include "model/folder_settings.hpp"
#include "model/weights/safetensors.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

// model/ appears whole: written aside by rank 0 (rows of the label side come from all ranks), then put in place.
void save_model(const Config& config, const TrainingParts& parts, const at::Tensor& labels, Communicator& comm) {
  const auto& store = parts.store;
  const auto& dataset = parts.dataset;
  const bool adapters = config.lora.rank > 0 || !config.lora.adapter.empty();
  const RunOrigin origin{config.data.path, dataset.identity(), adapters ? parts.base_fingerprint : nullptr};
  std::optional<FolderWriter> writer;
  on_root(comm, [&] {
    const Stage stage("write the model");
    writer.emplace(model_folder(config.run.dir), created_by("train"), "trained model");
    parts.encoder->files().save(writer->folder());
    std::map<std::string, at::Tensor> prototype;
    for (int i = 0; i < store.count(); ++i)
      if (store.info(i).name.starts_with("prototype.")) prototype[store.info(i).name] = store.value(i);
    if (!prototype.empty()) write_safetensors(writer->folder() / "prototype.safetensors", prototype);
  });
  const auto file = writer ? writer->folder() / "label_embeddings.h5" : std::filesystem::path();
  write_sharded(file, {{"/embeddings", {labels, at::kFloat}}}, RowShards(dataset.labels().size(), comm.world_size()),
                comm, {{"created_by", created_by("train")}});
  if (config.run.query_bank)
    write_query_bank(writer ? writer->folder() / query_bank_file({}).filename() : std::filesystem::path(), *parts.bank,
                     dataset, comm);
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
  const int64_t model =
      dataset.labels().size() * trainer.parts().encoder->width() * static_cast<int64_t>(sizeof(float)) +
      trainer.parts().store.elements() * static_cast<int64_t>(sizeof(float)) +
      (config.run.query_bank ? dataset.train().size() * trainer.parts().encoder->width() * int64_t{2} : 0);
  on_root(comm, [&] {
    const auto there = static_cast<int64_t>(checkpoint::complete_steps(config.run.dir).size());
    const int64_t more = std::max<int64_t>(trainer.checkpoints().most_on_disk() - there, 1);
    check_room(config.run.dir, more * checkpoint + model,
               fmt::format("{} checkpoint{} and the model", more, more == 1 ? "" : "s"));
  });
}

}  // namespace

int train_command(const Config& asked, MpiSession& session) {
  const std::shared_ptr<Communicator> comm = start_job(asked, session);
  Config config = asked;
  if (config.run.dir.empty()) fail_user("--run.dir is missing: give the folder that the run writes to");
  const auto dataset = open_dataset(config);
  config.model = with_folder_settings(asked.model, asked.lora);  // the run records what it was trained with
  const auto lock = take_run_folder(config, *comm);
  auto stage = std::make_unique<Stage>("load weights");
  Trainer trainer(config, *dataset, label_weights(config, *dataset, *comm), comm,
                  [&] { return lock != nullptr && lock->lost(); });
  stage.reset();
  check_room_for_run(config, trainer, *dataset, *comm);
  trainer.start();
  log_cpus(config, session);
  // Only now: a command that contradicts the run's checkpoint has failed above and left the run's own settings alone.
  on_root(*comm, [&] {
    write_text_atomically(std::filesystem::path(config.run.dir) / "config.ini", to_ini(config, /*only_changed=*/false));
  });
  std::vector<Metrics::Bin> bins;
  Config plain = config;  // a file may hold settings for those who ask the model later
  plain.augment = {};
  const auto evaluate = [&](const at::Tensor& labels) {
    return evaluate_test_split(*trainer.parts().encoder, labels, *dataset, plain, *comm, &bins);
  };
  while (trainer.run_epoch()) {
    if (trainer.evaluation_due()) trainer.record_evaluation(evaluate(trainer.label_representations()));
    trainer.checkpoint();
  }
  const auto labels = trainer.finish();
  save_model(config, trainer.parts(), labels, *comm);
  auto metrics = evaluate(labels);
  trainer.record_final(metrics);
  on_root(*comm, [&] {
    write_metrics_json(std::filesystem::path(config.run.dir) / "metrics.json", metrics);
    print_out("{}{}", metrics_table(metrics), bins_table(bins));
    spdlog::info("model in {}, metrics in {}/metrics.json", model_folder(config.run.dir).string(), config.run.dir);
  });
  return 0;
}

}  // namespace vixen
