// vixen mine: hard negatives of a data set's queries by a run, or by any backbone, as HDF5 or as JSON lines.
#include <ATen/ATen.h>

#include <fstream>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/version.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/outputs.hpp"
#include "commands/run_origin.hpp"
#include "commands/sharded_output.hpp"
#include "data/hdf5_matrix.hpp"
#include "mining/miner.hpp"
#include "retrieval/embed.hpp"

namespace vixen {
namespace {

// What is written of this rank's queries.
struct Mined {
  at::Tensor ids, scores, places;  // [n, k]
  at::Tensor dropped;              // [n, 4]
};

// Lines of the pairs of queries and relevant labels.
class LineWriter {
 public:
  LineWriter(const std::filesystem::path& path, const SequenceTable& queries, const SequenceTable& labels,
             const Ragged<int32_t>& relevant)
      : path_(path), file_(path, std::ios::binary), queries_(queries), labels_(labels), relevant_(relevant) {}

  /// ids int32 [rows, k] of queries from `first` on. A query with fewer than k is left out: all lines have the same
  /// keys.
  void write(int64_t first, const at::Tensor& ids) {
    const auto id = ids.accessor<int32_t, 2>();
    for (int64_t row = 0; row < ids.size(0); ++row) {
      const auto relevant = relevant_[first + row];
      if (id[row][ids.size(1) - 1] < 0) {
        ++short_;
        continue;
      }
      nlohmann::ordered_json line = {{"anchor", queries_.text(first + row)}, {"positive", ""}};
      for (int64_t place = 0; place < ids.size(1); ++place)
        line[fmt::format("negative_{}", place + 1)] = labels_.text(id[row][place]);
      for (const int32_t label : relevant) {
        line["positive"] = labels_.text(label);
        file_ << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
        ++lines_;
      }
    }
  }
  void close() {
    file_.close();
    if (!file_) fail_user("cannot write {}: no space, or no permission", path_.string());
  }
  int64_t lines() const { return lines_; }
  int64_t short_queries() const { return short_; }

 private:
  std::filesystem::path path_;
  std::ofstream file_;
  const SequenceTable& queries_;
  const SequenceTable& labels_;
  const Ragged<int32_t>& relevant_;
  int64_t lines_ = 0, short_ = 0;
};

void write_lines(const std::string& out, const Mined& mined, const SequenceTable& queries, const SequenceTable& labels,
                 const Ragged<int32_t>& relevant, const RowShards& shards, Communicator& comm) {
  const Stage stage("write " + out);
  // Rank 0 takes part in the exchange to its end, whatever happens to its file.
  bool streamed = false;
  const auto stream = [&](const std::function<void(int64_t, const at::Tensor&)>& take) {
    streamed = true;
    stream_to_root(mined.ids, shards, comm, take);
  };
  if (comm.rank() != 0) stream({});
  on_root(comm, [&] {
    try {
      const std::filesystem::path record = record_beside(out);
      const nlohmann::json content = {{"created_by", created_by("mine")},
                                      {"files", {std::filesystem::path(out).filename().string()}}};
      write_text_atomically(record, content.dump(1) + "\n");
      write_atomically(out, [&](const std::filesystem::path& path) {
        LineWriter writer(path, queries, labels, relevant);
        stream([&](int64_t first, const at::Tensor& rows) { writer.write(first, rows); });
        writer.close();
        spdlog::info("{}: {} lines; {} queries have fewer than {} negatives and are left out", out, writer.lines(),
                     writer.short_queries(), mined.ids.size(1));
      });
    } catch (...) {
      if (!streamed) stream([](int64_t, const at::Tensor&) {});
      throw;
    }
  });
}

}  // namespace

int mine_command(const Config& asked, MpiSession& session) {
  const auto comm = start_job(asked, session);
  const auto config = with_run_settings(asked);
  const bool prototypes = config.mining.against == MiningAgainst::kPrototypes;
  if (prototypes && config.run.dir.empty())
    fail_user("mining.against is prototypes, which are those of a run: give --run.dir, or mine against labels");
  const auto dataset = open_dataset(config);
  const auto model = load_encoder(config, *dataset, comm->device());
  const auto& table = query_table(config, *dataset);
  const auto& relevant = config.data.split == Split::kTrain ? dataset->train_labels() : dataset->test_labels();
  const int64_t k = config.mine.k;
  on_root(*comm, [&] {
    check_room(config.out, ranked_bytes("mine.k", table.size(), k), "negatives");
    if (prototypes)
      check_labels_are_the_runs(config.run.dir, *dataset,
                                MatrixReader({label_embeddings_file(config.run.dir), "/embeddings"}).rows(),
                                "prototypes are those of the run's labels");
  });
  log_cpus(config, session);
  const auto labels = prototypes
                          ? label_shard(*model->encoder, config, *dataset, *comm)
                          : embed_shard(*model->encoder, dataset->labels(), config, *dataset, *comm, "encode labels");
  const auto queries = embed_shard(*model->encoder, table, config, *dataset, *comm, "encode queries");
  const RowShards shards(table.size(), comm->world_size());
  const auto own = shards.range(comm->rank());
  Mined mined{at::empty({own.size(), k}, at::kInt), at::empty({own.size(), k}, at::kFloat),
              at::empty({own.size(), k}, at::kInt), at::empty({own.size(), 4}, at::kInt)};
  Miner miner(config, labels, dataset->labels(), *comm);
  const auto counts = miner.mine({table, relevant}, queries, own.begin, [&](const MinedBlock& block) {
    const int64_t first = block.first_query - own.begin, rows = block.ids.size(0);
    mined.ids.narrow(0, first, rows).copy_(block.ids.narrow(1, 0, k));
    mined.scores.narrow(0, first, rows).copy_(block.scores.narrow(1, 0, k));
    mined.places.narrow(0, first, rows).copy_(block.places.narrow(1, 0, k));
    mined.dropped.narrow(0, first, rows).copy_(block.dropped);
  });
  if (comm->rank() == 0) spdlog::info("{}", counts->text());
  if (config.mine.jsonl) {
    write_lines(config.out, mined, table, dataset->labels(), relevant, shards, *comm);
    return 0;
  }
  std::map<std::string, std::string> attributes = {{"created_by", created_by("mine")},
                                                   {"dropped_columns", "relevant, skipped, same_text, margin"}};
  if (dataset->identity_is_stored()) {
    const auto& identity = dataset->identity();
    attributes[kQueriesContent] = config.data.split == Split::kTrain ? identity.train : identity.test;
    attributes[kLabelsContent] = identity.label;
  }
  write_sharded(config.out,
                {{"/negatives", {mined.ids, at::kInt}},
                 {"/scores", {mined.scores, at::kFloat, Floats::kFiniteOrMinusInfinity}},
                 {"/places", {mined.places, at::kInt}},
                 {"/dropped", {mined.dropped, at::kInt}}},
                shards, *comm, attributes);
  if (comm->rank() == 0) spdlog::info("{}: up to {} negatives of {} queries", config.out, k, table.size());
  return 0;
}

}  // namespace vixen
