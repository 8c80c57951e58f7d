#include "commands/query_bank.hpp"

#include <ATen/ATen.h>

#include <map>
#include <optional>
#include <string>

#include "base/check.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/version.hpp"
#include "comm/on_root.hpp"
#include "commands/common.hpp"
#include "commands/sharded_output.hpp"
#include "data/dataset_identity.hpp"
#include "data/hdf5_file.hpp"
#include "data/hdf5_matrix.hpp"

namespace vixen {
namespace {

constexpr const char* kContent = "data_content";
constexpr const char* kRows = "/embeddings";

// Why the run's bank cannot stand for the training queries; empty: it can. On rank 0.
std::string why_not(const Config& config, const Dataset& dataset) {
  const auto file = query_bank_file(config.run.dir);
  if (!std::filesystem::exists(file)) return "the run has kept none";
  // A bank holds queries with their pictures, and a search without them compares like with like.
  if (!config.data.query_images) return "data.query_images is false";
  const Hdf5File bank(file, Hdf5File::Mode::kRead);
  const bool same = bank.has_attribute(kContent) && bank.string_attribute(kContent) == dataset.identity().train;
  return same ? std::string() : "its training queries are others";
}

}  // namespace

void write_query_bank(const std::filesystem::path& file, const ShardedTable& bank, const Dataset& dataset,
                      Communicator& comm) {
  write_sharded(file, {{kRows, {bank.local().cpu(), at::kHalf}}}, bank.shards(), comm,
                {{"created_by", created_by("train")}, {kContent, dataset.identity().train}});
}

void augment_by_training_queries(Retriever& retriever, const Config& config, const Dataset& dataset,
                                 Communicator& comm) {
  if (config.run.dir.empty() || config.augment.lambda == 0) return retriever.augment();
  std::string reason;
  on_root(comm, [&] { reason = why_not(config, dataset); });
  reason = comm.broadcast_host(reason, 0);
  const auto file = query_bank_file(config.run.dir);
  if (!reason.empty()) {
    if (comm.rank() == 0) spdlog::info("training queries are encoded: {} ({})", reason, file.string());
    return retriever.augment();
  }
  at::Tensor rows;
  {
    const Stage stage("read " + file.string());
    on_every_rank(comm, [&] {
      const MatrixReader reader({file, kRows});
      if (reader.rows() != dataset.train().size())
        fail_user("{}: {} rows, expected one for each of {} training queries", reader.where(), reader.rows(),
                  dataset.train().size());
      rows = reader.read_float(RowShards(reader.rows(), comm.world_size()).range(comm.rank()));
    });
  }
  retriever.augment(config.augment, rows.to(comm.device()), AugmentSource::of(dataset, comm));
}

}  // namespace vixen
