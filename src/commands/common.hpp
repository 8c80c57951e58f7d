// What several commands need: a started job, settings taken from a run, representations of both sides.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "comm/session.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "model/make_encoder.hpp"
#include "model/pack_options.hpp"

namespace vixen {

/// Device and numerics of this process (commands/numerics.hpp), the communicator over all ranks, and the checks that
/// come before any work (commands/preflight.hpp). Once a job; main has opened the log. Collective.
std::shared_ptr<Communicator> start_job(const Config& config, MpiSession& session);

/// Tells the threads and CPUs of the ranks on rank 0's node (info). Commands call it when they have seen all of their
/// input: an error in it is one line.
void log_cpus(const Config& config, const MpiSession& session);

/// With run.dir: the configuration to read that run's model with, keys of fact kOfModel as in RUN/config.ini; data.path
/// as asked for, else the run's. A run of the whole backbone has
/// its model in RUN/model; one of adapters has the adapters there (lora.adapter) and its base where it was
/// (model.path). Without run.dir: the configuration itself. Pooling and mask
/// as with_folder_settings settles them. UserError when the run has no finished model, or its base
/// is gone.
Config with_run_settings(const Config& config);

/// The data set, after checking that its tokens come from the model's tokenizer (model.check_tokenizer).
std::unique_ptr<Dataset> open_dataset(const Config& config);

/// A backbone for inference (nothing is trained), with its weights and adapters.
struct LoadedEncoder {
  ParameterStore store;
  std::unique_ptr<LayeredEncoder> encoder;
};
std::unique_ptr<LoadedEncoder> load_encoder(const Config& config, const Dataset& dataset, at::Device device);

/// The rows of this rank of RUN/model/label_embeddings.h5, or n(u) of the data set's labels when there is no run.
/// float32.
at::Tensor label_shard(Encoder& encoder, const Config& config, const Dataset& dataset, Communicator& comm);

/// Where a finished run keeps its model, and the representations of its labels within.
std::filesystem::path model_folder(const std::string& run_dir);
std::filesystem::path label_embeddings_file(const std::string& run_dir);
/// And the embeddings of its training queries, unless run.query_bank was false.
std::filesystem::path query_bank_file(const std::string& run_dir);

/// Queries that embed and predict read (data.split).
const SequenceTable& query_table(const Config& config, const Dataset& dataset);

}  // namespace vixen
