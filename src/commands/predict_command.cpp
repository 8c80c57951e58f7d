// vixen predict: the best labels for the queries of any prepared data set, as HDF5 or as text.
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
#include "commands/predict_table.hpp"
#include "commands/run_origin.hpp"
#include "commands/sharded_output.hpp"
#include "eval/evaluator.hpp"
#include "search/exact_search.hpp"

namespace vixen {
namespace {

// A tab or a line break inside a text would break the table.
std::string one_cell(std::string_view text) {
  std::string cell(text);
  for (auto& c : cell)
    if (c == '\t' || c == '\n' || c == '\r') c = ' ';
  return cell;
}

void write_tsv(const std::filesystem::path& path, const at::Tensor& ids, const at::Tensor& scores,
               const SequenceTable& queries, const SequenceTable& labels) {
  const Stage stage("write " + path.string());
  write_text_atomically(path, [&] {
    std::string text = kPredictTableHeader;
    const auto id = ids.accessor<int64_t, 2>();
    const auto score = scores.accessor<float, 2>();
    for (int64_t row = 0; row < ids.size(0); ++row)
      for (int64_t rank = 0; rank < ids.size(1) && id[row][rank] >= 0; ++rank)
        text += fmt::format("{}\t{}\t{}\t{}\t{}\t{:.6f}\n", row, one_cell(queries.text(row)), rank + 1, id[row][rank],
                            one_cell(labels.text(id[row][rank])), score[row][rank]);
    return text;
  }());
}

// Removes filtered labels (the query itself) from ranked lists that are wide enough, and cuts to k.
TopK without_filtered(const TopK& wide, const Ragged<int32_t>& filter, RowRange range, int64_t k) {
  TopK cut{at::full({wide.ids.size(0), k}, -1, at::kLong),
           at::full({wide.ids.size(0), k}, -std::numeric_limits<float>::infinity(), at::kFloat)};
  const auto ids = wide.ids.cpu();
  const auto scores = wide.scores.cpu();
  for (int64_t row = 0; row < ids.size(0); ++row) {
    const auto dropped = filter[range.begin + row];
    int64_t kept = 0;
    for (int64_t place = 0; place < ids.size(1) && kept < k; ++place) {
      const auto id = ids[row].data_ptr<int64_t>()[place];
      if (id < 0) break;
      if (std::binary_search(dropped.begin(), dropped.end(), static_cast<int32_t>(id))) continue;
      cut.ids[row].data_ptr<int64_t>()[kept] = id;
      cut.scores[row].data_ptr<float>()[kept++] = scores[row].data_ptr<float>()[place];
    }
  }
  return cut;
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
    check_room(config.out, ranked_bytes("predict.k", query_table(config, *dataset).size(), config.predict.k),
               "predictions");
  });
  same_labels = comm->max_host(static_cast<int64_t>(same_labels)) != 0;

  const auto& table = query_table(config, *dataset);
  const RowShards shards(table.size(), comm->world_size());
  const auto range = shards.range(comm->rank());
  const bool filters = config.data.split == Split::kTest && same_labels;
  const int64_t widest = filters ? widest_filter(*dataset) : 0;

  log_cpus(config, session);
  const auto queries = embed_shard(*model->encoder, table, config, *dataset, *comm, "encode queries");
  const auto options = search_options(config, config.predict.k + widest, comm->rank() == 0);
  const LabelIndex index(labels, RowShards(n_labels, comm->world_size()).range(comm->rank()).begin, options);
  auto best = sharded_search(index, queries, options, *comm);
  if (widest > 0) best = without_filtered(best, dataset->test_filter(), range, config.predict.k);

  if (config.predict.text) {
    auto ids = at::empty({comm->rank() == 0 ? table.size() : 0, config.predict.k}, at::kLong);
    auto scores = at::empty(ids.sizes(), at::kFloat);
    stream_to_root(best.ids, shards, *comm,
                   [&](int64_t first, const at::Tensor& rows) { ids.narrow(0, first, rows.size(0)).copy_(rows); });
    stream_to_root(best.scores, shards, *comm,
                   [&](int64_t first, const at::Tensor& rows) { scores.narrow(0, first, rows.size(0)).copy_(rows); });
    on_root(*comm, [&] { write_tsv(config.out, ids, scores, table, dataset->labels()); });
  } else {
    std::map<std::string, std::string> attributes = {{"created_by", created_by("predict")}};
    if (dataset->identity_is_stored()) {
      const auto& identity = dataset->identity();
      attributes[kQueriesContent] = config.data.split == Split::kTrain ? identity.train : identity.test;
      if (same_labels) attributes[kLabelsContent] = identity.label;
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
