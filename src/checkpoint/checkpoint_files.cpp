// Names, manifest text and folder moves of checkpoints.
#include "checkpoint/checkpoint_files.hpp"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "base/check.hpp"
#include "base/file.hpp"

namespace vixen::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kStep = "step-";
constexpr std::string_view kRemoved = ".removed";
constexpr const char* kFormat = "vixen checkpoint";

std::optional<uint64_t> parse_step(const std::string& name) {
  if (!name.starts_with(kStep)) return std::nullopt;
  uint64_t step = 0;
  const char* end = name.data() + name.size();
  const auto result = std::from_chars(name.data() + kStep.size(), end, step);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return step;
}

/// Whether this program writes files of that name into a checkpoint's folder, or begins them under it.
bool is_own_file(std::string name) {
  const std::string begun = partial_name({});
  if (name.ends_with(begun)) name.resize(name.size() - begun.size());
  return name == kManifest || name == kDense || (name.starts_with("shard-") && name.ends_with(".safetensors"));
}

std::string hex(uint64_t value) {
  return fmt::format("{:016x}", value);
}

std::string hash_of(std::string_view text) {
  return hex(checksum(std::as_bytes(std::span(text.data(), text.size()))));
}

/// What stands behind the body: the last member of the object and its closing brace.
std::string closing_lines(std::string_view body) {
  return fmt::format(",\n \"checksum\": \"{}\"\n}}\n", hash_of(body));
}

// A manifest's values, each asked for by its key; a fault is a UserError that names file and key. Only a program that
// writes the right checksum under something else gets here: another version, or an editor who mended the checksum.
class Manifest {
 public:
  explicit Manifest(std::string file) : file_(std::move(file)) {}

  const json& at(const json& object, const std::string& key) const {
    if (!object.is_object() || !object.contains(key))
      fail_user("{}: key {} is missing, expected a checkpoint as this version writes it", file_, key);
    return object.at(key);
  }
  const json& object_at(const json& object, const std::string& key) const {
    return must(at(object, key), at(object, key).is_object(), key, "an object");
  }
  const json& list_at(const json& object, const std::string& key) const {
    return must(at(object, key), at(object, key).is_array(), key, "a list");
  }
  int64_t count(const json& value, const std::string& key) const {
    constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    must(value, value.is_number_unsigned() && value.get<uint64_t>() <= kMost, key, "a whole number, at least 0");
    return value.get<int64_t>();
  }

  void check(const json& manifest) const {
    count(at(manifest, "step"), "step");
    const int64_t world_size = count(at(manifest, "world_size"), "world_size");
    must(at(manifest, "world_size"), world_size >= 1 && world_size <= std::numeric_limits<int>::max(), "world_size",
         "a number of ranks");
    object_at(manifest, "scalars");
    for (const auto& [name, file] : object_at(manifest, "files").items()) {
      count(at(file, "bytes"), "bytes");
      must(at(file, "checksum"), at(file, "checksum").is_string(), "checksum", "a string");
    }
    for (const auto& [name, table] : object_at(manifest, "tables").items()) check_table(name, table, world_size);
  }

 private:
  const json& must(const json& value, bool good, const std::string& key, const char* expected) const {
    if (!good) fail_user("{}: {} is a JSON {}, expected {}", file_, key, value.type_name(), expected);
    return value;
  }

  // Rows that no shard holds would keep whatever was in memory.
  void check_table(const std::string& name, const json& table, int64_t world_size) const {
    const int64_t rows = count(at(table, "rows"), "rows");
    for (const auto& size : list_at(table, "row_shape")) count(size, "row_shape");
    const auto& shards = list_at(table, "shards");
    int64_t end = 0;
    bool whole = static_cast<int64_t>(shards.size()) == world_size;
    for (const auto& shard : shards) {
      must(shard, shard.is_array() && shard.size() == 2, "shards", "pairs of rows");
      whole = whole && count(shard[0], "shards") == end && count(shard[1], "shards") >= end;
      end = count(shard[1], "shards");
    }
    if (!whole || end != rows)
      fail_user("{}: table {}: the shards of {} ranks do not hold its {} rows one after another", file_, name,
                world_size, rows);
  }

  std::string file_;
};

}  // namespace

fs::path checkpoints_folder(const fs::path& run_dir) {
  return run_dir / "checkpoints";
}

fs::path step_folder(const fs::path& run_dir, uint64_t step) {
  return checkpoints_folder(run_dir) / fmt::format("{}{:08}", kStep, step);
}

std::string shard_name(int rank, int world_size) {
  return fmt::format("shard-{:05}-of-{:05}.safetensors", rank, world_size);
}

std::vector<uint64_t> complete_steps(const fs::path& run_dir) {
  std::vector<uint64_t> steps;
  std::error_code error;
  for (fs::directory_iterator entry(checkpoints_folder(run_dir), error), end; !error && entry != end;
       entry.increment(error)) {
    const auto step = parse_step(entry->path().filename().string());
    std::error_code ignored;
    if (step && fs::is_regular_file(entry->path() / kManifest, ignored)) steps.push_back(*step);
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    fail_user("cannot read {}: {}", checkpoints_folder(run_dir).string(), error.message());
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string manifest_text(const nlohmann::json& manifest) {
  nlohmann::json full = manifest;
  full["format"] = kFormat;
  full["version"] = kVersion;
  std::string body = full.dump(1, ' ', false, nlohmann::json::error_handler_t::replace);
  body.resize(body.size() - 2);  // "\n}"
  return body + closing_lines(body);
}

nlohmann::json parse_manifest(const fs::path& path) {
  const std::string text = read_text(path);
  const std::string name = path.string();
  const size_t end = text.rfind(",\n \"checksum\": \"");
  if (end == text.npos)
    fail_user("{}: damaged: found no checksum line, expected one at its end (a truncated file?)", name);
  const std::string body = text.substr(0, end);
  if (text.substr(end) != closing_lines(body))
    fail_user("{}: damaged: its content does not have the checksum on its last line", name);
  const auto shallow = [&](int depth, json::parse_event_t, json&) {
    constexpr int kDeepest = 100;  // copying and printing recurse
    if (depth > kDeepest) fail_user("{}: nested deeper than {} levels", name, kDeepest);
    return true;
  };
  auto manifest = json::parse(text, shallow, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("format") || manifest.at("format") != kFormat)
    fail_user("{}: found another format, expected \"{}\"", name, kFormat);
  if (!manifest.contains("version") || manifest.at("version") != kVersion)
    fail_user("{}: found version {}, expected {}", name, manifest.value("version", json()).dump(), kVersion);
  Manifest(name).check(manifest);
  return manifest;
}

nlohmann::json describe_file(const fs::path& path) {
  return {{"bytes", fs::file_size(path)}, {"checksum", hex(checksum_file(path))}};
}

void verify_file(const fs::path& folder, const std::string& name, const nlohmann::json& manifest) {
  const auto path = folder / name;
  const auto& files = manifest.at("files");
  if (!files.contains(name)) fail_user("{}: does not list {}", (folder / kManifest).string(), name);
  const auto expected_bytes = files.at(name).at("bytes").get<uint64_t>();
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) fail_user("{}: {}, expected a file of {} bytes", path.string(), error.message(), expected_bytes);
  if (bytes != expected_bytes)
    fail_user("{}: damaged: found {} bytes, expected {}", path.string(), bytes, expected_bytes);
  const auto expected = files.at(name).at("checksum").get<std::string>();
  const auto found = hex(checksum_file(path));
  if (found != expected) fail_user("{}: damaged: found checksum {}, expected {}", path.string(), found, expected);
}

bool remove_own_files(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> own;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (is_own_file(entry->path().filename().string())) own.push_back(entry->path());
  for (const auto& path : own) fs::remove(path, error);
  fs::remove(folder, error);  // of an empty folder only
  return !error;
}

void remove_partial_folders(const fs::path& run_dir) {
  std::vector<fs::path> stale;
  std::error_code error;
  for (fs::directory_iterator entry(checkpoints_folder(run_dir), error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (!name.ends_with(kPartial)) continue;
    name.resize(name.size() - std::string_view(kPartial).size());
    if (name.ends_with(kRemoved)) name.resize(name.size() - kRemoved.size());
    if (parse_step(name)) stale.push_back(entry->path());
  }
  for (const auto& path : stale) remove_own_files(path);  // what cannot be removed is ignored by every reader
}

void move_into_place(const fs::path& partial, const fs::path& folder) {
  if (fs::exists(folder)) {
    // Exchange the two names at once, so that there is a complete checkpoint of this step at every moment.
    if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
      remove_own_files(partial);
      sync_path(folder.parent_path());
      return;
    }
    remove_checkpoint(folder);  // a file system that cannot exchange (NFS)
  }
  fs::rename(partial, folder);
  sync_path(folder.parent_path());
}

bool remove_checkpoint(const fs::path& folder) {
  auto aside = folder;
  aside += std::string(kRemoved) + kPartial;
  fs::rename(folder, aside);
  if (remove_own_files(aside)) return true;
  fs::rename(aside, folder);  // without a manifest it is no checkpoint
  return false;
}

}  // namespace vixen::checkpoint
