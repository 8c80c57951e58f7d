// vixen mine: hard negatives of a data set's queries by a run, or by any backbone, as HDF5 or as JSON lines.
//   N queries, k negatives of a query
#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/lap.hpp"
#include "base/log.hpp"
#include "base/stop.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/mined_lines.hpp"
#include "commands/mined_origin.hpp"
#include "commands/mined_parts.hpp"
#include "commands/outputs.hpp"
#include "commands/run_origin.hpp"
#include "commands/sharded_output.hpp"
#include "data/hdf5_matrix.hpp"
#include "mining/miner.hpp"
#include "mining/same_labels.hpp"
#include "retrieval/embed.hpp"

namespace vixen {
namespace {

/// Everything that the command searches with, on every rank.
struct MiningJob {
  const Config& config;
  Encoder& encoder;
  const Dataset& dataset;
  const Dataset* corpus;  // null: the labels of `dataset`
  Communicator& comm;

  bool train() const { return config.data.split == Split::kTrain; }
  const SequenceTable& queries() const { return query_table(config, dataset); }
  const Ragged<int32_t>& relevant() const { return train() ? dataset.train_labels() : dataset.test_labels(); }
  const Dataset& searched() const { return corpus == nullptr ? dataset : *corpus; }
  at::Tensor embed_labels(const Dataset& of, const std::string& label) const {
    return embed_shard(encoder, of.labels(), config, of, comm, label);
  }
};

/// What the rules need to know of a part's queries, whatever is searched.
class PartQueries {
 public:
  /// Embeds the data set's labels where the margins go by them and others are searched. Collective.
  explicit PartQueries(const MiningJob& job) : job_(job) {
    if (job.corpus == nullptr) return;
    same_.emplace(job.dataset.labels(), job.corpus->labels());
    if (has_margin(job.config.mining))
      own_labels_.emplace(job.comm, job.dataset.labels().size(),
                          job.embed_labels(job.dataset, "encode relevant labels"));
  }

  /// Of this rank's queries; valid until the next call.
  MiningQueries of(RowRange own) {
    MiningQueries queries{job_.queries(), {job_.relevant()}};
    const bool filters = !job_.train();
    if (!same_) {
      if (filters) queries.filter = QueryLabels{job_.dataset.test_filter()};
      return queries;
    }
    relevant_ = same_->of(job_.relevant(), own);
    queries.relevant = {relevant_.view(), own.begin};
    if (filters) {
      filter_ = same_->of(job_.dataset.test_filter(), own);
      queries.filter = QueryLabels{filter_.view(), own.begin};
    }
    if (own_labels_) queries.positives.emplace(MiningPositives{{job_.relevant()}, *own_labels_});
    return queries;
  }

 private:
  const MiningJob& job_;
  std::optional<SameLabels> same_;  // of another corpus alone, like what follows
  std::optional<ShardedTable> own_labels_;
  OwnedRagged relevant_, filter_;
};

/// "part 3 of 35: 196,608 of 2,248,619 queries, 143/s, 3:58:52 left".
std::string progress_line(int64_t part, int64_t parts, int64_t done, int64_t of, int64_t now, double seconds) {
  const double rate = static_cast<double>(now) / std::max(seconds, 1e-9);
  const auto left = static_cast<int64_t>(static_cast<double>(of - done) / std::max(rate, 1e-9));
  return fmt::format("part {} of {}: {} of {} queries, {:.0f}/s, {}:{:02}:{:02} left", part + 1, parts, done, of, rate,
                     left / 3600, left / 60 % 60, left % 60);
}

/// Finds the parts that are not there yet. Collective.
void mine_parts(const MiningJob& job, const MinedParts& parts, const std::vector<int64_t>& missing) {
  Communicator& comm = job.comm;
  const auto& config = job.config;
  const auto labels = config.mining.against == MiningAgainst::kPrototypes
                          ? label_shard(job.encoder, config, job.dataset, comm)
                          : job.embed_labels(job.searched(), "encode labels");
  PartQueries of_part(job);
  Miner miner(config, labels, job.searched().labels(), comm, MinedDetail::kPlacesAndDrops);
  int64_t left = 0, mined = 0;
  for (const int64_t part : missing) left += parts.rows(part).size();
  const auto stop = [&comm] { return comm.max_host(int64_t{stop_requested()}) != 0; };
  install_stop_handlers();
  const Lap lap;
  for (const int64_t part : missing) {
    const RowRange rows = parts.rows(part);
    const std::string which = parts.size() == 1 ? "" : fmt::format(", part {} of {}", part + 1, parts.size());
    const auto queries =
        embed_part(job.encoder, job.queries(), rows, config, job.dataset, comm, "encode queries" + which);
    const auto local = RowShards(rows.size(), comm.world_size()).range(comm.rank());
    const RowRange own{rows.begin + local.begin, rows.begin + local.end};
    const int64_t k = parts.k();
    auto found = MinedRows::empty(own.size(), k);
    const auto take = [&](const MinedBlock& block) {
      const int64_t first = block.queries.first - own.begin, n = block.ids.size(0);
      found.ids.narrow(0, first, n).copy_(block.ids.narrow(1, 0, k));
      found.scores.narrow(0, first, n).copy_(block.scores.narrow(1, 0, k));
      found.places.narrow(0, first, n).copy_(block.places.narrow(1, 0, k));
      found.dropped.narrow(0, first, n).copy_(block.dropped);
    };
    MinedSummary summary;
    const auto asked = of_part.of(own);
    miner.measure(asked, queries, own.begin);
    const auto counts = miner.mine(asked, queries, own.begin, take, stop, "mine" + which);
    if (!counts) {
      if (comm.rank() == 0)
        spdlog::warn("stopped on request with {} of {} parts made: run the same command again to go on",
                     parts.size() - (missing.end() - std::find(missing.begin(), missing.end(), part)), parts.size());
      throw StoppedOnRequest{};
    }
    summary.counts = *counts;
    if (const auto& report = miner.report(); report.recall) {
      summary.recall = *report.recall;
      summary.recall_queries = report.recall_queries;
    }
    parts.write(part, found, summary, comm);
    mined += rows.size();
    if (comm.rank() == 0 && mined < left)
      spdlog::info("{}", progress_line(part, parts.size(), parts.n_queries() - left + mined, parts.n_queries(), mined,
                                       lap.total()));
  }
}

/// One HDF5 file of all parts. Collective.
void write_matrices(const MiningJob& job, const MinedParts& parts, const MinedAttributes& attributes) {
  const std::string& out = job.config.out;
  std::optional<MatrixWriter> writer;
  on_root(job.comm, [&] {
    writer.emplace(out, attributes);
    for (const auto& column : mined_columns())
      writer->add(column.name, parts.n_queries(), column.rows == &MinedRows::dropped ? 4 : parts.k(), column.dtype,
                  column.floats);
  });
  parts.for_each_block(job.comm, "write " + out, [&](int64_t first, const MinedRows& block) {
    for (const auto& column : mined_columns()) writer->write(column.name, first, block.*column.rows);
  });
  on_root(job.comm, [&] {
    writer->close();
    spdlog::info("{}: up to {} negatives of {} queries", out, parts.k(), parts.n_queries());
  });
}

/// The lines of all parts. Collective.
void write_lines(const MiningJob& job, const MinedParts& parts, const MinedAttributes& attributes) {
  const std::string& out = job.config.out;
  const MinedTexts texts{job.queries(),           job.dataset.labels(),   job.relevant(),
                         job.searched().labels(), job.config.mine.format, job.config.mine.positives};
  std::optional<MinedLineWriter> writer;
  on_root(job.comm, [&] { writer.emplace(out, texts); });
  parts.for_each_block(job.comm, "write " + out,
                       [&](int64_t first, const MinedRows& block) { writer->write(first, block.ids); });
  on_root(job.comm, [&] {
    const auto counts = writer->close(attributes);
    const bool tuple = texts.format == MineFormat::kTuple;
    spdlog::info(
        "{}: {} lines; left out: {} queries {}, {} without a relevant label", out, counts.lines, counts.short_queries,
        tuple ? fmt::format("with fewer than {} negatives", parts.k()) : "without negatives", counts.without_label);
  });
}

void check_room_for(const Config& config, const MinedParts& parts, const std::vector<int64_t>& missing) {
  constexpr int64_t kDroppedBytes = 16;
  int64_t queries = config.mine.format == MineFormat::kHdf5 ? parts.n_queries() : 0;  // lines: as long as their texts
  for (const int64_t part : missing) queries += parts.rows(part).size();
  check_room(config.out, ranked_bytes("mine.k", queries, parts.k()) + kDroppedBytes * queries, "negatives");
}

}  // namespace

int mine_command(const Config& asked, MpiSession& session) {
  const auto comm = start_job(asked, session);
  const auto config = with_run_settings(asked);
  check_prototypes(config);
  const auto dataset = open_dataset(config);
  const auto model = load_encoder(config, *dataset, comm->device());
  const auto corpus = open_corpus(config, *dataset, *model->encoder);
  const MiningJob job{config, *model->encoder, *dataset, corpus.get(), *comm};

  MinedAttributes attributes;  // of rank 0, which alone reads and writes them
  on_root(*comm, [&] {
    if (config.mining.against == MiningAgainst::kPrototypes)
      check_labels_are_the_runs(config.run.dir, *dataset,
                                MatrixReader({label_embeddings_file(config.run.dir), "/embeddings"}).rows(),
                                "prototypes are those of the run's labels");
    attributes = mined_origin(config, *dataset, corpus.get(), comm->world_size());
  });
  const MinedParts parts(config.out, job.queries().size(), config.mine.part_queries,
                         config.mine.k == 0 ? config.mining.depth : config.mine.k, attributes);
  const auto missing = parts.missing(inputs_of(config), *comm);
  on_root(*comm, [&] { check_room_for(config, parts, missing); });
  log_cpus(config, session);
  if (comm->rank() == 0 && std::ssize(missing) < parts.size())
    spdlog::info("{}: going on from {} of {} parts that are there", config.out, parts.size() - std::ssize(missing),
                 parts.size());
  if (!missing.empty()) mine_parts(job, parts, missing);

  const MinedSummary summary = parts.summary(*comm);
  attributes[kMinedSummary] = summary.json();
  if (config.mine.format == MineFormat::kHdf5)
    write_matrices(job, parts, attributes);
  else
    write_lines(job, parts, attributes);
  on_root(*comm, [&] {
    spdlog::info("{}", summary.counts.text());
    parts.remove();
  });
  return 0;
}

}  // namespace vixen
