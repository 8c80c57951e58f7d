// vixen predict: the best labels for the queries of any prepared data set, as HDF5 or as text.
#include <ATen/ATen.h>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/version.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/predict_table.hpp"
#include "commands/query_bank.hpp"
#include "commands/run_origin.hpp"
#include "commands/sharded_output.hpp"
#include "commands/shared_file.hpp"
#include "retrieval/retriever.hpp"

namespace vixen {
namespace {

// A tab or a line break inside a text would break the table.
std::string one_cell(std::string_view text) {
  std::string cell(text);
  for (auto& c : cell)
    if (c == '\t' || c == '\n' || c == '\r') c = ' ';
  return cell;
}

void write_tsv(const std::filesystem::path& path, const TopK& best, const RowShards& shards,
               const SequenceTable& queries, const SequenceTable& labels, Communicator& comm) {
  const Stage stage("write " + path.string());
  const auto ids = best.ids.cpu().contiguous(), scores = best.scores.cpu().contiguous();
  const int64_t first = shards.range(comm.rank()).begin, k = ids.size(1);
  write_text_rows(path, kPredictTableHeader, shards, comm, [&](int64_t row, std::string& text) {
    const auto* id = ids.const_data_ptr<int64_t>() + row * k;
    const auto* score = scores.const_data_ptr<float>() + row * k;
    const std::string query = one_cell(queries.text(first + row));
    for (int64_t rank = 0; rank < k && id[rank] >= 0; ++rank)
      text += fmt::format("{}\t{}\t{}\t{}\t{}\t{:.6f}\n", first + row, query, rank + 1, id[rank],
                          one_cell(labels.text(id[rank])), score[rank]);
  });
}

}  // namespace

int predict_command(const Config& asked, MpiSession& session) {
  const auto comm = start_job(asked, session);
  if (asked.out.empty()) fail_user("--out is missing: give the file to write (HDF5, or TSV with --predict.text)");
  const auto config = with_run_settings(asked);
  const auto dataset = open_dataset(config);
  const auto model = load_encoder(config, *dataset, comm->device());
  const auto labels = label_shard(*model->encoder, config, *dataset, *comm);
  const int64_t n_labels = comm->sum_host(labels.size(0));
  bool same_labels = false;
  on_root(*comm, [&] {
    same_labels = labels_are_the_runs(config.run.dir, *dataset, n_labels);
    if (config.predict.text)
      check_labels_are_the_runs(config.run.dir, *dataset, n_labels, "label names need the data set of the run");
    if (augments(config.augment))
      check_labels_are_the_runs(config.run.dir, *dataset, n_labels, "[augment] needs the data set of the run");
    check_room(config.out, ranked_bytes("predict.k", query_table(config, *dataset).size(), config.predict.k),
               "predictions");
  });
  same_labels = comm->max_host(static_cast<int64_t>(same_labels)) != 0;

  const auto& table = query_table(config, *dataset);
  const RowShards shards(table.size(), comm->world_size());
  const bool filters = config.data.split == Split::kTest && same_labels;
  log_cpus(config, session);
  Retriever retriever(*model->encoder, *dataset, labels, config, *comm);
  if (augments(config.augment)) augment_by_training_queries(retriever, config, *dataset, *comm);
  const auto best = retriever.retrieve(table, config.predict.k, filters ? &dataset->test_filter() : nullptr);

  if (config.predict.text) {
    write_tsv(config.out, best, shards, table, dataset->labels(), *comm);
  } else {
    std::map<std::string, std::string> attributes = {{"created_by", created_by("predict")}};
    if (dataset->identity_is_stored()) {
      const auto& identity = dataset->identity();
      attributes[kQueriesContent] = config.data.split == Split::kTrain ? identity.train : identity.test;
      if (same_labels) attributes[kLabelsContent] = identity.label;
    }
    if (const auto& report = retriever.report(); report.recall) {
      attributes["search_method"] = index_kind(report.method).name;
      attributes["search_recall"] = fmt::format("{:.4f}", *report.recall);
    }
    write_sharded(
        config.out,
        {{"/indices", {best.ids, at::kLong}}, {"/scores", {best.scores, at::kFloat, Floats::kFiniteOrMinusInfinity}}},
        shards, *comm, attributes);
  }
  if (comm->rank() == 0)
    spdlog::info("{}: the {} best labels of {} queries", config.out, config.predict.k, table.size());
  return 0;
}

}  // namespace vixen
