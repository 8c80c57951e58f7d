// Shared parts of the commands.
#include "commands/common.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "comm/on_root.hpp"
#include "commands/numerics.hpp"
#include "commands/preflight.hpp"
#include "commands/run_origin.hpp"
#include "config/parse.hpp"
#include "config/run_settings.hpp"
#include "data/hdf5_matrix.hpp"
#include "device/tracked_memory.hpp"
#include "kernels/choice.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/folder_settings.hpp"
#include "retrieval/embed.hpp"

namespace vixen {

std::shared_ptr<Communicator> start_job(const Config& config, MpiSession& session) {
  const int asked = static_cast<int>(config.threads);
  set_numerics(config, session.local_rank(), asked > 0 ? asked : session.cpus().threads());
  track_tensor_memory();
  spdlog::debug("{} ranks, device {}, CPU kernels {}; on {}: {}", session.world_size(), name_of(config.device),
                cpu_isa(), session.host(), session.cpus().own_text(asked));
  std::shared_ptr<Communicator> comm = session.make_communicator(config.device, session.patience());
  on_root(*comm, [&] { preflight(config); });
  return comm;
}

void log_cpus(const Config& config, const MpiSession& session) {
  if (session.rank() == 0)
    spdlog::info("{}: {}", session.host(), session.cpus().text(static_cast<int>(config.threads)));
}

std::filesystem::path model_folder(const std::string& run_dir) {
  return std::filesystem::path(run_dir) / "model";
}

std::filesystem::path label_embeddings_file(const std::string& run_dir) {
  return model_folder(run_dir) / "label_embeddings.h5";
}

std::filesystem::path query_bank_file(const std::string& run_dir) {
  return model_folder(run_dir) / "query_embeddings.h5";
}

Config with_run_settings(const Config& config) {
  if (config.run.dir.empty()) {
    Config settled = config;
    if (!config.model.path.empty()) settled.model = with_folder_settings(config.model, config.lora);
    return settled;
  }
  const auto folder = model_folder(config.run.dir);
  const bool adapters = std::filesystem::exists(folder / kAdapterConfigFile);
  if (!adapters && !std::filesystem::exists(folder / "config.json"))
    fail_user("{}: no finished model here (expected {}): let `vixen train --run.dir {}` end first", config.run.dir,
              (folder / "config.json").string(), config.run.dir);
  Config run;
  const auto ini = std::filesystem::path(config.run.dir) / "config.ini";
  for (const auto& retired : apply_ini(run, read_text(ini), ini.string())) spdlog::info("{}", retired);
  Config merged = config;
  take_model_settings(run, merged);
  if (adapters) {
    merged.lora.adapter = folder.string();
    if (!std::filesystem::exists(std::filesystem::path(run.model.path) / "config.json"))
      fail_user("{}: the base model that its adapters belong to is gone: found no {}", config.run.dir,
                (std::filesystem::path(run.model.path) / "config.json").string());
    check_base_is_the_runs(config.run.dir, run.model.path);
  } else {
    merged.model.path = folder.string();
    merged.model.layers = 0;  // the saved model has just the layers it was trained with
    merged.lora = LoraConfig{};
  }
  merged.model = with_folder_settings(merged.model, merged.lora);
  if (merged.data.path.empty()) merged.data.path = run.data.path;
  return merged;
}

std::unique_ptr<Dataset> open_dataset(const Config& config) {
  if (config.data.path.empty())
    fail_user("--data.path is missing: give the data set (DATA.h5, from tools/prepare_dataset.py)");
  if (config.model.path.empty())
    fail_user("--model.path is missing: give a Hugging Face folder (tools/fetch_model.py gets one)");
  auto dataset = std::make_unique<Dataset>(config.data.path);
  if (config.model.check_tokenizer) {
    const auto found = tokenizer_sha256(config.model.path);
    if (found != dataset->info().tokenizer_sha256)
      fail_user(
          "{}: tokenised with a tokenizer.json of SHA-256 {}, the model {} has {}: prepare the data set with this "
          "model",
          config.data.path, dataset->info().tokenizer_sha256.substr(0, 12), config.model.path, found.substr(0, 12));
  }
  return dataset;
}

std::unique_ptr<LoadedEncoder> load_encoder(const Config& config, const Dataset& dataset, at::Device device) {
  const Stage stage("load weights");
  auto loaded = std::make_unique<LoadedEncoder>();
  loaded->encoder =
      make_encoder({config.model, config.lora, image_width(config, dataset), /*trainable=*/false}, loaded->store);
  check_fits(*loaded->encoder, dataset, pack_options(config, *loaded->encoder, dataset));
  loaded->encoder->files().check();
  loaded->store.allocate(device, config.model.compute == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat);
  loaded->encoder->files().load(config.train.seed);
  return loaded;
}

const SequenceTable& query_table(const Config& config, const Dataset& dataset) {
  return config.data.split == Split::kTrain ? dataset.train() : dataset.test();
}

at::Tensor label_shard(Encoder& encoder, const Config& config, const Dataset& dataset, Communicator& comm) {
  if (config.run.dir.empty()) return embed_shard(encoder, dataset.labels(), config, dataset, comm, "encode labels");
  const auto file = label_embeddings_file(config.run.dir);
  const MatrixReader reader({file, "/embeddings"});
  if (reader.columns() != encoder.width())
    fail_user("{}: /embeddings is {} wide, the model beside it {}", file.string(), reader.columns(), encoder.width());
  const auto range = RowShards(reader.rows(), comm.world_size()).range(comm.rank());
  at::Tensor rows;
  const Stage stage("read label embeddings");
  on_every_rank(comm, [&] { rows = reader.read_float(range); });
  return rows.to(comm.device());
}

}  // namespace vixen
