// Writing, reading and comparing what a run was made from.
#include "commands/run_origin.hpp"

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/made_folder.hpp"
#include "commands/common.hpp"
#include "model/weight_fingerprint.hpp"

namespace vixen {
using nlohmann::json;

json to_json(const RunOrigin& origin) {
  json data = {{"path", origin.data_path}};
  for (const auto& part : identity_parts()) data[part.name] = origin.data.*part.member;
  return {{"data", data}, {"base", origin.base}};
}

std::optional<RunOrigin> read_origin(const std::string& run_dir) {
  const auto path = model_folder(run_dir) / kFolderMarker;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  const json marker = json::parse(read_text(path), nullptr, /*allow_exceptions=*/false);
  try {
    RunOrigin origin;
    const json& data = marker.at("data");
    origin.data_path = data.at("path");
    for (const auto& part : identity_parts()) origin.data.*part.member = data.at(part.name);
    origin.base = marker.at("base");
    return origin;
  } catch (const json::exception& found) {
    fail_user("{}: damaged: {}: expected what `vixen train` wrote", path.string(), found.what());
  }
}

void check_base_is_the_runs(const std::string& run_dir, const std::string& base_path) {
  const auto origin = read_origin(run_dir);
  if (!origin || origin->base.is_null()) return;
  const std::string part = fingerprint_difference(origin->base, weight_fingerprint(base_path));
  if (!part.empty())
    fail_user("{}: its adapters were trained on another base model: {} of {} has changed since: put the original back",
              run_dir, part, base_path);
}

bool labels_are_the_runs(const std::string& run_dir, const Dataset& dataset, int64_t n_labels) {
  const auto origin = run_dir.empty() ? std::nullopt : read_origin(run_dir);
  return n_labels == dataset.labels().size() && (!origin || origin->data.label == dataset.identity().label);
}

void check_labels_are_the_runs(const std::string& run_dir, const Dataset& dataset, int64_t n_labels,
                               const std::string& need) {
  if (labels_are_the_runs(run_dir, dataset, n_labels)) return;
  const std::string path = dataset.path().string();
  if (n_labels != dataset.labels().size())
    fail_user("{}: holds {} labels, the run {} was trained on {}: {}", path, dataset.labels().size(), run_dir, n_labels,
              need);
  const auto origin = read_origin(run_dir);
  fail_user("{}: its {} labels are not those that the run {} was trained on ({}: content {}, here {}): {}", path,
            n_labels, run_dir, origin->data_path, origin->data.label, dataset.identity().label, need);
}

}  // namespace vixen
