// Inputs against outputs, and how an output of ours is known again.
#include "commands/outputs.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/made_folder.hpp"
#include "base/same_file.hpp"
#include "checkpoint/checkpoint.hpp"
#include "commands/common.hpp"
#include "commands/predict_table.hpp"
#include "config/keys.hpp"
#include "config/parse.hpp"
#include "data/hdf5_file.hpp"
#include "data/hdf5_matrix.hpp"

namespace vixen {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr size_t kHeadBytes = 4096;           // enough of a file to know its kind
constexpr uintmax_t kLargestJson = 64 << 20;  // reports and metrics are far smaller

std::string head_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string head(kHeadBytes, '\0');
  stream.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(stream.gcount()));
  return head;
}

/// The Python tools that write files (tools/vixen_tools/outputs.py has the same list).
constexpr const char* kTools[] = {"add_prompts",   "augment_grid",     "baselines",
                                  "bench_search",  "checkpoint_bench", "compact_images",
                                  "embed_images",  "fetch_model",      "import_official",
                                  "label_side",    "lora_step",        "make_bundle",
                                  "make_configs",  "make_xmc",         "mining_study",
                                  "pecos_run",     "prepare_dataset",  "report",
                                  "scaling_study", "seed_study",       "sentence_transformers_run",
                                  "split_dataset", "time_to_accuracy", "world_study"};

/// "vixen embed 0.1.0", or a tool's "prepare_dataset.py 0.1.0".
bool is_our_name(const std::string& created_by) {
  const size_t version = created_by.rfind(' ');
  int major = 0, minor = 0, patch = 0;
  if (version == created_by.npos || std::sscanf(created_by.c_str() + version, " %d.%d.%d", &major, &minor, &patch) != 3)
    return false;
  const std::string maker = created_by.substr(0, version);
  if (maker == "vixen" || (maker.starts_with("vixen ") && find_command(maker.substr(6)) != nullptr)) return true;
  return std::any_of(std::begin(kTools), std::end(kTools),
                     [&](const char* tool) { return maker == tool + std::string(".py"); });
}

std::string path_of(const Key& key, Config config) {
  return *std::get<std::string*>(key.field(config));
}

bool is_our_hdf5(const fs::path& file) {
  try {
    const Hdf5File hdf5(file, Hdf5File::Mode::kRead);
    return hdf5.has_attribute("created_by") && is_our_name(hdf5.string_attribute("created_by"));
  } catch (const UserError&) {
    return false;  // damaged, or not ours
  }
}

bool is_our_json(const fs::path& file) {
  std::error_code error;
  if (fs::file_size(file, error) > kLargestJson || error) return false;
  const json content = json::parse(read_text(file), nullptr, /*allow_exceptions=*/false);
  if (!content.is_object()) return false;
  if (content.contains("created_by"))
    return content["created_by"].is_string() && is_our_name(content["created_by"].get<std::string>());
  for (const char* key : {"P@1", "queries", "labels"})  // metrics: numbers only, as the interface promises
    if (!content.contains(key)) return false;
  return std::all_of(content.begin(), content.end(), [](const json& value) { return value.is_number(); });
}

bool is_listed_beside(const fs::path& file) {
  const auto record = record_beside(file);
  std::error_code error;
  if (!fs::is_regular_file(record, error) || !is_our_json(record)) return false;
  const json content = json::parse(read_text(record), nullptr, /*allow_exceptions=*/false);
  const json files = content.value("files", json::array());
  return std::find(files.begin(), files.end(), file.filename().string()) != files.end();
}

[[noreturn]] void fail_input(const std::string& named, const fs::path& out, const InputPath& input, const char* how) {
  fail_user("{} {}: {} {} ({}), which would be lost: give another name", named, out.string(), how, input.path.string(),
            input.named);
}

/// Finds out whether a file can be made in the folder, by making one.
void probe_writing(const std::string& named, const fs::path& out, const fs::path& folder) {
  const fs::path probe = partial_name(folder / ("." + out.filename().string() + ".probe"));
  const int descriptor = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0)
    fail_user("{} {}: cannot write in {}: {}", named, out.string(), folder.string(),
              std::generic_category().message(errno));
  ::close(descriptor);
  ::unlink(probe.c_str());
}

fs::path folder_of(const fs::path& path) {
  const auto folder = path.has_filename() ? path.parent_path() : path.parent_path().parent_path();
  return folder.empty() ? fs::path(".") : folder;
}

/// The parts of a run that training owns: nothing else may be written there.
bool is_part_of_run(const fs::path& path, const fs::path& run) {
  for (const char* name : {"model", "checkpoints"})
    if (lies_within(path, run / name)) return true;
  for (const char* name : {"config.ini", "metrics.jsonl", "run.lock", kFolderMarker})
    if (same_file(path, run / name)) return true;
  return path.filename().string().starts_with("events.out.tfevents.") && same_file(folder_of(path), run);
}

void check_against_run(const std::string& named, const fs::path& out, const std::vector<InputPath>& inputs) {
  for (const auto& input : inputs)
    if (input.named == "--run.dir" && is_part_of_run(out, input.path))
      fail_user("{} {}: is a part of the run {}: give another name", named, out.string(), input.path.string());
}

/// The nearest folder above `path` that is there.
fs::path existing_folder(fs::path path) {
  std::error_code error;
  while (!path.empty() && path.has_relative_path() && !fs::exists(path, error)) path = folder_of(path);
  return path;
}

/// Of an index's files: the name without .faiss or .txt.
fs::path index_stem(const fs::path& file) {
  const std::string ending = file.extension().string();
  return ending == ".faiss" || ending == ".txt" ? file.parent_path() / file.stem() : file;
}

fs::path with_ending(fs::path stem, const char* ending) {
  return stem += ending;
}

}  // namespace

std::vector<InputPath> inputs_of(const Config& config) {
  std::vector<InputPath> inputs;
  const auto add = [&inputs](std::string named, const std::string& value) {
    if (!value.empty()) inputs.push_back({std::move(named), parse_matrix_path(value, "/").file});
  };
  const bool trains = config.command == "train";
  for (const auto& key : all_keys()) {
    const bool reads = key.path == PathRole::kInput || (key.path == PathRole::kRun && !trains);
    if (reads && key.read_by(config.command)) add("--" + key.name, path_of(key, config));
  }
  for (const auto& file : config.files) add("--config", file);
  if (trains || config.run.dir.empty()) return inputs;
  Config run;
  const auto ini = fs::path(config.run.dir) / "config.ini";
  try {
    apply_ini(run, read_text(ini), ini.string());
  } catch (const UserError&) {
    return inputs;  // said by the command that reads it
  }
  add("the run's data set", run.data.path);
  add("the run's base model", run.model.path);
  add("the run's first adapter", run.lora.adapter);
  return inputs;
}

fs::path record_beside(const fs::path& file) {
  return with_ending(index_stem(file), ".vixen.json");
}

std::vector<fs::path> index_files(const fs::path& out) {
  std::error_code error;
  const fs::path index = fs::is_directory(out, error) ? out / "labels.faiss" : out;
  const fs::path texts = with_ending(index_stem(index), ".txt");
  if (texts == index)
    fail_user("--out {}: is the name of the list of texts beside an index: give NAME.faiss", out.string());
  return {index, texts, record_beside(index)};
}

bool made_by_vixen(const fs::path& file) {
  const std::string head = head_of(file);
  if (head.empty()) {  // nothing in it, or not ours to read
    std::error_code error;
    return fs::file_size(file, error) == 0 && !error;
  }
  if (head.starts_with("\x89HDF\r\n\x1a\n")) return is_our_hdf5(file);
  if (is_listed_beside(file)) return true;
  if (head.find_first_not_of(" \t\r\n") != head.npos && head[head.find_first_not_of(" \t\r\n")] == '{')
    return is_our_json(file);
  if (head.starts_with(kPredictTableHeader)) return true;
  return head.find("<meta name=\"generator\" content=\"vixen") != head.npos;
}

void check_output_file(const std::string& named, const fs::path& out, const std::vector<InputPath>& inputs) {
  const fs::path target = write_target(out);
  std::error_code error;
  const auto status = fs::status(target, error);
  if (fs::is_directory(status)) fail_user("{} {}: is a folder, expected the name of a file", named, out.string());
  if (!out.has_filename()) fail_user("{} {}: ends as a folder's name does, expected a file's", named, out.string());
  if (fs::exists(status) && !fs::is_regular_file(status))
    fail_user("{} {}: is a device, pipe or socket: give the name of a file", named, out.string());
  for (const auto& input : inputs)
    if (same_file(target, input.path)) fail_input(named, out, input, "is the input");
  check_against_run(named, target, inputs);
  const fs::path folder = folder_of(target);
  if (!fs::is_directory(folder, error)) fail_user("{} {}: there is no folder {}", named, out.string(), folder.string());
  if (fs::exists(status) && !made_by_vixen(target))
    fail_user("{} {}: exists and was not made by vixen: give another name, or remove it", named, out.string());
  probe_writing(named, out, folder);
}

void check_output_folder(const std::string& named, const fs::path& out, const std::vector<InputPath>& inputs) {
  const fs::path target = write_target(out);
  for (const auto& input : inputs) {
    if (same_file(target, input.path)) fail_input(named, out, input, "is the input");
    if (lies_within(input.path, target)) fail_input(named, out, input, "holds the input");
  }
  check_against_run(named, target, inputs);
  const std::string reason = why_not_replaceable(target);
  if (!reason.empty()) fail_user("{} {}: {}", named, out.string(), reason);
  const fs::path above = existing_folder(folder_of(target));
  std::error_code error;
  if (!fs::is_directory(above, error))
    fail_user("{} {}: {} is a file, expected a folder", named, out.string(), above.string());
  probe_writing(named, out, above);
}

void check_run_folder(const fs::path& run, const std::vector<InputPath>& inputs) {
  const std::string named = "--run.dir";
  std::error_code error;
  const auto status = fs::status(run, error);
  if (fs::exists(status) && !fs::is_directory(status))
    fail_user("{} {}: is a file, expected a folder", named, run.string());
  for (const auto& input : inputs) {
    // Inside the run folder there is room for others' files, but not where training writes.
    if (same_file(run, input.path)) fail_input(named, run, input, "is the input");
    if (is_part_of_run(input.path, run) && input.named != "--config") {
      fail_user("{} {}: training would replace {} ({}), which it reads: give another run folder", named, run.string(),
                input.path.string(), input.named);
    }
  }
  const bool ours = !folder_made_by(run).empty() || newest_checkpoint(run).has_value();
  if (!ours) {
    for (const char* name : {"config.ini", "metrics.jsonl", "metrics.json", "model", "checkpoints"})
      if (fs::exists(run / name, error))
        fail_user("{} {}: holds {}, but was not made by `vixen train` (no {}): give another folder", named,
                  run.string(), name, kFolderMarker);
  }
  if (ours && fs::exists(run / "model", error) && !folder_made_by(run / "model").empty()) {
    const std::string reason = why_not_replaceable(run / "model");
    if (!reason.empty()) fail_user("{}: {}", (run / "model").string(), reason);
  }
  const fs::path above = existing_folder(run);
  if (!fs::is_directory(above, error))
    fail_user("{} {}: {} is a file, expected a folder", named, run.string(), above.string());
  probe_writing(named, run, above);
}

}  // namespace vixen
