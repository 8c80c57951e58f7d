// vixen embed: unit embeddings of a data set's queries or labels, to HDF5.
#include <ATen/ATen.h>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/version.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/run_origin.hpp"
#include "commands/sharded_output.hpp"
#include "data/hdf5_matrix.hpp"
#include "retrieval/embed.hpp"

namespace vixen {

int embed_command(const Config& asked, MpiSession& session) {
  const auto comm = start_job(asked, session);
  if (asked.out.empty()) fail_user("--out is missing: give the HDF5 file to write");
  const auto config = with_run_settings(asked);
  if (config.embed.prototypes && (config.run.dir.empty() || config.embed.side != EmbedSide::kLabels))
    fail_user(
        "embed.prototypes needs --run.dir and --embed.side labels: prototypes exist for the labels of a trained run");
  const auto dataset = open_dataset(config);
  const auto model = load_encoder(config, *dataset, comm->device());

  const bool labels = config.embed.side == EmbedSide::kLabels;
  const auto& table = labels ? dataset->labels() : query_table(config, *dataset);
  const auto dtype = config.embed.dtype == EmbedType::kFloat16 ? at::kHalf : at::kFloat;
  on_root(*comm, [&] {
    check_room(config.out, table.size() * model->encoder->width() * static_cast<int64_t>(c10::elementSize(dtype)),
               "embeddings");
    if (config.embed.prototypes) {
      const auto n_labels = MatrixReader({label_embeddings_file(config.run.dir), "/embeddings"}).rows();
      check_labels_are_the_runs(config.run.dir, *dataset, n_labels, "prototypes are those of the run's labels");
    }
  });
  log_cpus(config, session);
  const auto rows = config.embed.prototypes ? label_shard(*model->encoder, config, *dataset, *comm)
                                            : embed_shard(*model->encoder, table, config, *dataset, *comm,
                                                          fmt::format("encode {}", name_of(config.embed.side)));
  const RowShards shards(table.size(), comm->world_size());
  std::map<std::string, std::string> attributes = {{"created_by", created_by("embed")}};
  if (dataset->identity_is_stored()) {
    const auto& identity = dataset->identity();
    attributes["data_content"] = labels                               ? identity.label
                                 : config.data.split == Split::kTrain ? identity.train
                                                                      : identity.test;
  }
  write_sharded(config.out, {{"/embeddings", {rows.to(dtype), dtype}}}, shards, *comm, attributes);
  if (comm->rank() == 0)
    spdlog::info("{}: /embeddings [{}, {}] {}", config.out, table.size(), model->encoder->width(),
                 name_of(config.embed.dtype));
  return 0;
}

}  // namespace vixen
