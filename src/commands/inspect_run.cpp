// The reports on checkpoints, runs and tensors.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <map>
#include <vector>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/json_file.hpp"
#include "base/text.hpp"
#include "checkpoint/checkpoint.hpp"
#include "commands/inspect.hpp"
#include "commands/text_table.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// One line of text for a JSON value, long ones shortened.
std::string brief(const json& value) {
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  if (value.is_number_integer()) return with_commas(value.get<int64_t>());
  if (value.is_string()) return shortened(value.get<std::string>(), 80);
  return shortened(value.dump(), 80);
}

/// Key and value lines with aligned values.
std::string key_lines(const json& object) {
  size_t width = 0;
  for (const auto& [key, value] : object.items()) width = std::max(width, key.size());
  std::string out;
  for (const auto& [key, value] : object.items()) out += fmt::format("  {:<{}}  {}\n", key, width, brief(value));
  return out;
}

/// The last complete line of metrics.jsonl and how many there are. Every line is parsed.
std::pair<json, int64_t> read_metrics_lines(const fs::path& path) {
  std::ifstream file(path);
  json last;
  int64_t n = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    ++n;
    auto parsed = is_deep_json(line) ? json() : json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object()) fail_user("{}: line {} is not a JSON object: '{}'", path.string(), n, shortened(line, 60));
    last = std::move(parsed);
  }
  return {last, n};
}

/// Metrics in rows of k = 1..5 where they have a k, the rest below.
std::string metrics_text(const json& metrics) {
  TextTable table({"", "@1", "@2", "@3", "@4", "@5", "@10", "@100"});
  std::map<std::string, std::vector<std::string>> rows;
  json rest = json::object();
  const std::map<std::string, size_t> column = {{"1", 0}, {"2", 1},  {"3", 2},  {"4", 3},
                                                {"5", 4}, {"10", 5}, {"100", 6}};
  for (const auto& [key, value] : metrics.items()) {
    const size_t at = key.find('@');
    const auto found = at == std::string::npos ? column.end() : column.find(key.substr(at + 1));
    if (found == column.end() || !value.is_number()) {
      rest[key] = value;
      continue;
    }
    auto& row = rows[key.substr(0, at)];
    row.resize(column.size());
    row[found->second] = fmt::format("{:.2f}", value.get<double>());
  }
  for (auto& [name, row] : rows) {
    row.insert(row.begin(), name);
    table.add(row);
  }
  return (rows.empty() ? "" : table.text()) + key_lines(rest);
}

}  // namespace

std::string inspect_checkpoint(const fs::path& folder) {
  const json manifest = read_manifest(folder, /*verify=*/true);
  std::string out =
      fmt::format("{}: checkpoint of step {}, written by {} rank{}\n", folder.string(), brief(manifest.at("step")),
                  brief(manifest.at("world_size")), manifest.at("world_size") == 1 ? "" : "s");
  json scalars = manifest.at("scalars");
  scalars.erase("settings");  // shown by the run's config.ini
  out += key_lines(scalars) + "\n";
  TextTable tables({"table", "rows", "row"});
  for (const auto& [name, table] : manifest.at("tables").items())
    tables.add({name, brief(table.at("rows")), table.contains("row_shape") ? table.at("row_shape").dump() : ""});
  if (!manifest.at("tables").empty()) out += tables.text() + "\n";
  TextTable files({"file", "bytes", "checksum"});
  for (const auto& [name, file] : manifest.at("files").items()) files.add({name, brief(file.at("bytes")), "ok"});
  return out + files.text();
}

std::string inspect_run(const fs::path& folder) {
  std::string out = fmt::format("{}: run\n", folder.string());
  const fs::path config = folder / "config.ini", log = folder / "metrics.jsonl", metrics = folder / "metrics.json";
  out += "\n  config.ini\n";
  std::string text = read_text(config);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    out += end > at ? "    " + text.substr(at, end - at) + "\n" : "\n";
    at = end + 1;
  }
  if (fs::exists(log)) {
    const auto [last, n] = read_metrics_lines(log);
    out += fmt::format("\n  metrics.jsonl: {} lines{}\n", with_commas(n), n > 0 ? ", the last one:" : "");
    if (n > 0) out += key_lines(last);
  }
  if (fs::exists(metrics))
    out += "\n  metrics.json\n" + metrics_text(read_json_object(metrics, "metrics as `vixen evaluate` writes them"));
  const fs::path checkpoints = folder / "checkpoints";
  std::vector<fs::path> found;
  if (fs::is_directory(checkpoints))
    for (const auto& entry : fs::directory_iterator(checkpoints))
      if (entry.is_directory() && !entry.is_symlink() && fs::exists(entry.path() / "manifest.json"))
        found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  for (const fs::path& checkpoint : found)
    if (checkpoint.extension() != ".partial") out += "\n" + inspect_checkpoint(checkpoint);
  return fs::is_directory(folder / "model") ? out + "\n" + inspect_model(folder / "model", Detail::kFiles) : out;
}

}  // namespace vixen
