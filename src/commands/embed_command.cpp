// vixen embed: unit embeddings of a data set's queries or labels, to HDF5.
#include <ATen/ATen.h>

#include "base/check.hpp"
#include "base/log.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/sharded_output.hpp"

namespace vixen {

int embed_command(const Config& asked, MpiSession& session) {
  const auto comm = start_job(asked, session);
  if (asked.out.empty()) fail_user("--out is missing: give the HDF5 file to write");
  const auto config = with_run_settings(asked);
  if (config.embed.prototypes && (config.run.dir.empty() || config.embed.side != "labels"))
    fail_user(
        "embed.prototypes needs --run.dir and --embed.side labels: prototypes exist for the labels of a trained run");
  const auto dataset = open_dataset(config);
  const auto model = load_encoder(config, *dataset, comm->device());

  const bool labels = config.embed.side == "labels";
  const auto& table = labels ? dataset->labels() : query_table(config, *dataset);
  const auto rows = config.embed.prototypes
                        ? label_shard(*model->encoder, config, *dataset, *comm)
                        : embed_shard(*model->encoder, table, config, *dataset, *comm, "encode " + config.embed.side);
  const RowShards shards(table.size(), comm->world_size());
  if (rows.size(0) != shards.range(comm->rank()).size())
    fail_user("{}: the run's labels are not those of {}", config.run.dir, config.data.path);
  const auto dtype = config.embed.dtype == "fp16" ? at::kHalf : at::kFloat;
  write_sharded(config.out, {{"/embeddings", {rows.to(dtype), dtype}}}, shards, *comm);
  if (comm->rank() == 0)
    spdlog::info("{}: /embeddings [{}, {}] {}", config.out, table.size(), model->encoder->width(), config.embed.dtype);
  return 0;
}

}  // namespace vixen
