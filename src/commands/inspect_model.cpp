// The report on models: weight files whole or in shards, adapters and the base model that they belong to.
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "base/check.hpp"
#include "base/json_file.hpp"
#include "base/text.hpp"
#include "commands/inspect.hpp"
#include "commands/text_table.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/weights/safetensors.hpp"
#include "model/weights/weight_files.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t n : shape) text += (text.empty() ? "" : " x ") + with_commas(n);
  return text.empty() ? "scalar" : text;
}

/// A value of a configuration as it stands there, "?" when it is missing.
std::string brief(const json& object, const char* key) {
  if (!object.contains(key)) return "?";
  const json& value = object[key];
  return shown(value.is_string() ? value.get<std::string>() : value.dump(), 80);
}

/// "bert, 6 layers, width 384, vocabulary 30522" of a config.json, as far as it says so.
std::string architecture(const fs::path& config) {
  const json model = read_json_object(config, "a model's config.json");
  std::string text = brief(model, "model_type");
  const std::pair<const char*, const char*> keys[] = {{"num_hidden_layers", "layers"},
                                                      {"n_layers", "layers"},
                                                      {"hidden_size", "width"},
                                                      {"dim", "width"},
                                                      {"vocab_size", "vocabulary"}};
  for (const auto& [key, name] : keys)
    if (model.contains(key)) text += fmt::format(", {} {}", name, brief(model, key));
  return text;
}

/// The folder's files of weights that we read, sorted; the shards that its index names.
std::vector<fs::path> weight_files(const fs::path& folder) {
  std::set<fs::path> files;
  if (fs::exists(folder / kWeightFile) || fs::exists(folder / kWeightIndexFile)) {
    const WeightFiles weights(folder);
    for (const std::string& name : weights.names()) files.insert(weights.file_of(name));
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") && !name.starts_with("model")) files.insert(entry.path());
  }
  return {files.begin(), files.end()};
}

std::string file_lines(const fs::path& folder) {
  std::string out;
  for (const fs::path& path : weight_files(folder)) {
    const SafetensorsFile file(path);
    out += fmt::format("  {}: {} tensors, {}\n", path.filename().string(),
                       with_commas(static_cast<int64_t>(file.names().size())),
                       human_bytes(static_cast<int64_t>(fs::file_size(path))));
  }
  return out;
}

/// Rank, modules and base of adapters, and the files of that base where it is on this machine.
std::string adapter_lines(const fs::path& path) {
  const json adapter = read_json_object(path, "a PEFT adapter's configuration");
  const std::string key = "base_model_name_or_path";
  const std::string base = adapter.contains(key) && adapter[key].is_string() ? adapter[key].get<std::string>() : "";
  std::string out =
      fmt::format("  LoRA of rank {}, alpha {}{}, on {}\n  base model {}", brief(adapter, "r"),
                  brief(adapter, "lora_alpha"), adapter.value("use_rslora", json()) == true ? " (rsLoRA)" : "",
                  brief(adapter, "target_modules"), brief(adapter, key.c_str()));
  if (base.empty() || !fs::exists(fs::path(base) / "config.json")) return out + " (not a folder on this machine)\n";
  return out + ": " + architecture(fs::path(base) / "config.json") + "\n" + file_lines(base);
}

}  // namespace

bool is_model(const fs::path& folder) {
  for (const char* name : {kWeightFile, kWeightIndexFile, kAdapterConfigFile, kAdapterWeightFile})
    if (fs::exists(folder / name)) return true;
  return false;
}

std::string inspect_model(const fs::path& folder, Detail detail) {
  std::string out = fmt::format("{}: model", folder.string());
  if (fs::exists(folder / "config.json")) out += ", " + architecture(folder / "config.json");
  out += "\n";
  if (fs::exists(folder / kAdapterConfigFile)) out += adapter_lines(folder / kAdapterConfigFile);
  if (detail == Detail::kFiles) return out + file_lines(folder);
  for (const fs::path& path : weight_files(folder)) out += "\n" + inspect_safetensors(path);
  return out;
}

std::string inspect_safetensors(const fs::path& path) {
  const SafetensorsFile file(path);
  TextTable table({"tensor", "dtype", "shape", "bytes"}, 3);
  int64_t elements = 0, bytes = 0, unread = 0;
  for (const std::string& name : file.names()) {
    int64_t count = 1;
    for (const int64_t n : file.shape(name)) count *= n;
    if (file.is_readable(name)) {
      file.tensor(name);  // refuses NaN and infinity
      file.done_with(name);
    } else {
      ++unread;
    }
    table.add({shown(name), file.dtype_name(name), shape_text(file.shape(name)), human_bytes(file.bytes(name))});
    elements += count;
    bytes += file.bytes(name);
  }
  const std::string checked =
      unread == 0 ? "every value is finite"
                  : fmt::format("{} tensors have a dtype that is not read, all others are finite", unread);
  return fmt::format("{}: {} tensors, {} values, {}\n{}  checked: {}\n", path.string(), file.names().size(),
                     with_commas(elements), human_bytes(bytes), table.text(), checked);
}

}  // namespace vixen
