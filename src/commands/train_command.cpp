// vixen train: from a data set and a backbone to a run folder with checkpoints, metrics and the finished model.
#include <ATen/ATen.h>

#include <filesystem>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/stop.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/sharded_output.hpp"
#include "commands/test_split.hpp"
#include "config/parse.hpp"
#include "eval/evaluator.hpp"
#include "model/safetensors.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

// model/ appears whole: written aside by rank 0 (rows of the label side come from all ranks), then renamed.
void save_model(const Config& config, const Encoder& encoder, const ParameterStore& store, const at::Tensor& labels,
                int64_t n_labels, Communicator& comm) {
  const auto folder = model_folder(config.run.dir);
  auto partial = folder;
  partial += ".partial";
  on_root(comm, [&] {
    std::filesystem::remove_all(partial);
    std::filesystem::create_directories(partial);
    encoder.save(partial);
    std::map<std::string, at::Tensor> prototype;
    for (int i = 0; i < store.count(); ++i)
      if (store.info(i).name.starts_with("prototype.")) prototype[store.info(i).name] = store.value(i);
    if (!prototype.empty()) write_safetensors(partial / "prototype.safetensors", prototype);
  });
  write_sharded(partial / "label_embeddings.h5", {{"/embeddings", {labels, at::kFloat}}},
                RowShards(n_labels, comm.world_size()), comm);
  on_root(comm, [&] {
    std::filesystem::remove_all(folder);
    std::filesystem::rename(partial, folder);
    sync_path(config.run.dir);
  });
}

}  // namespace

int train_command(const Config& config, MpiSession& session) {
  install_stop_handlers();
  const std::shared_ptr<Communicator> comm = start_job(config, session);
  if (config.run.dir.empty()) fail_user("--run.dir is missing: give the folder that the run writes to");
  const auto dataset = open_dataset(config);
  auto trainer = std::unique_ptr<Trainer>();
  TrainerHooks hooks;
  std::vector<Metrics::Bin> bins;
  hooks.evaluate = [&](Encoder& encoder, const at::Tensor& labels) {
    return evaluate_test_split(encoder, labels, *dataset, config, *comm, &bins);
  };
  hooks.save_model = [&](Encoder& encoder, const at::Tensor& labels) {
    save_model(config, encoder, trainer->store(), labels, dataset->labels().size(), *comm);
  };
  trainer = std::make_unique<Trainer>(config, *dataset, label_weights(config, *dataset), comm, std::move(hooks));
  trainer->start();
  // Only now: a command that contradicts the run's checkpoint has failed above and left the run's own settings alone.
  on_root(*comm, [&] {
    write_text_atomically(std::filesystem::path(config.run.dir) / "config.ini", to_ini(config, /*only_changed=*/false));
  });
  const auto metrics = trainer->run();
  on_root(*comm, [&] {
    write_metrics_json(std::filesystem::path(config.run.dir) / "metrics.json", metrics);
    fmt::print("{}{}", metrics_table(metrics), bins_table(bins));
    spdlog::info("model in {}, metrics in {}/metrics.json", model_folder(config.run.dir).string(), config.run.dir);
  });
  return 0;
}

}  // namespace vixen
