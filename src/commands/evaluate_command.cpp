// vixen evaluate: metrics of a run, of an untrained backbone (zero-shot), or of a predictions file.
#include <ATen/ATen.h>

#include "base/check.hpp"
#include "base/lap.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/standard_streams.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/run_origin.hpp"
#include "commands/test_split.hpp"
#include "data/hdf5_file.hpp"
#include "data/hdf5_matrix.hpp"
#include "eval/predictions_file.hpp"

namespace vixen {
namespace {

/// Rows and ids mean something on one data set only: predictions say which, those of other programs need not.
void check_content(const std::string& path, const Dataset& dataset) {
  const Hdf5File file(path, Hdf5File::Mode::kRead);
  for (const auto& [attribute, words, part] : {std::tuple{kQueriesContent, "test queries", &DatasetIdentity::test},
                                               {kLabelsContent, "labels", &DatasetIdentity::label}}) {
    if (!file.has_attribute(attribute)) continue;
    const std::string& expected = dataset.identity().*part;
    const std::string found = file.string_attribute(attribute);
    if (found != expected)
      fail_user("{}: was predicted for other {} (content {}) than those of {} ({})", path, words, found,
                dataset.path().string(), expected);
  }
}

}  // namespace

int evaluate_command(const Config& asked, MpiSession& session) {
  const Lap lap;
  const auto comm = start_job(asked, session);
  auto config = asked;
  std::map<std::string, double> metrics;
  std::vector<Metrics::Bin> bins;
  std::unique_ptr<Dataset> dataset;
  if (!config.evaluate.predictions.empty()) {
    if (config.data.path.empty()) fail_user("--data.path is missing: give the data set whose test split was predicted");
    dataset = std::make_unique<Dataset>(config.data.path);
    const auto range = RowShards(dataset->test().size(), comm->world_size()).range(comm->rank());
    on_root(*comm, [&] { check_content(config.evaluate.predictions, *dataset); });
    TopK predictions;
    const Stage stage("read " + config.evaluate.predictions);
    on_every_rank(*comm, [&] {
      predictions =
          read_predictions(config.evaluate.predictions, range, dataset->test().size(), dataset->labels().size());
    });
    metrics = evaluate_predictions(predictions, range, *dataset, config, *comm, &bins);
  } else {
    config = with_run_settings(asked);
    dataset = open_dataset(config);
    const auto model = load_encoder(config, *dataset, comm->device());
    if (!config.run.dir.empty())
      on_root(*comm, [&] {
        const auto n_labels = MatrixReader({label_embeddings_file(config.run.dir), "/embeddings"}).rows();
        check_labels_are_the_runs(config.run.dir, *dataset, n_labels, "metrics need the data set of the run");
      });
    log_cpus(config, session);
    const auto labels = label_shard(*model->encoder, config, *dataset, *comm);
    metrics = evaluate_test_split(*model->encoder, labels, *dataset, config, *comm, &bins);
  }
  metrics["seconds"] = lap.total();
  if (comm->rank() == 0) {
    print_out("{}", metrics_table(metrics));
    print_out("{}", bins_table(bins));
    if (!config.out.empty()) write_metrics_json(config.out, metrics);
  }
  return 0;
}

}  // namespace vixen
