// The checks of a command before its first pass.
#include "commands/preflight.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "base/same_file.hpp"
#include "commands/outputs.hpp"
#include "eval/metrics.hpp"

namespace vixen {
namespace {

void check_best_metric(const Config& config) {
  const auto names = Metrics::names();
  if (std::find(names.begin(), names.end(), config.train.best_metric) == names.end())
    fail_user("train.best_metric = {}: expected one of {}", config.train.best_metric, fmt::join(names, ", "));
}

}  // namespace

void preflight(const Config& config) {
  const auto inputs = inputs_of(config);
  if (config.command == "train") {
    check_best_metric(config);
    if (!config.run.dir.empty()) check_run_folder(config.run.dir, inputs);
    return;
  }
  if (config.out.empty()) return;
  if (config.command == "export" && config.export_.format != ExportFormat::kFaiss) {
    check_output_folder("--out", config.out, inputs);
  } else if (config.command == "export") {
    for (const auto& file : index_files(config.out)) check_output_file("--out", file, inputs);
  } else {
    check_output_file("--out", config.out, inputs);
    if (config.command == "mine" && config.mine.format != MineFormat::kHdf5)
      check_output_file("--out", record_beside(write_target(config.out)), inputs);  // by which lines are known as ours
  }
}

}  // namespace vixen
