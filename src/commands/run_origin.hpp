// What a finished run was made from: its data set and its base model, by content. RUN/model/.vixen.json holds it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "config/config.hpp"
#include "data/dataset_identity.hpp"

namespace vixen {

/// Attributes of a predictions file: the content of the queries and labels that its rows and ids refer to.
inline constexpr const char* kQueriesContent = "queries_content";
inline constexpr const char* kLabelsContent = "labels_content";

struct RunOrigin {
  std::string data_path;
  DatasetIdentity data;
  nlohmann::json base;  // weight_fingerprint of the frozen base; null where the model is complete in itself
};

/// As it is written beside the model.
nlohmann::json to_json(const RunOrigin& origin);

/// nullopt for a run of a version that did not write it. UserError when it is damaged.
std::optional<RunOrigin> read_origin(const std::string& run_dir);

/// UserError unless the base model that the adapters of the run belong to is the one they were trained with.
void check_base_is_the_runs(const std::string& run_dir, const std::string& base_path);

/// Whether the data set's labels are those that the run was trained on; by their number, n_labels, where the run does
/// not say what they were.
bool labels_are_the_runs(const std::string& run_dir, const Dataset& dataset, int64_t n_labels);

/// UserError unless labels_are_the_runs. `need` ends the line: "label names need the data set of the run".
void check_labels_are_the_runs(const std::string& run_dir, const Dataset& dataset, int64_t n_labels,
                               const std::string& need);

}  // namespace vixen
