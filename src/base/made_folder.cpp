// The marker, and the exchange of an old folder for a new one.
#include "base/made_folder.hpp"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "base/check.hpp"
#include "base/file.hpp"

namespace vixen {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

json read_marker(const fs::path& folder) {
  std::error_code error;
  const auto path = folder / kFolderMarker;
  if (!fs::is_regular_file(path, error)) return json();
  return json::parse(read_text(path), nullptr, /*allow_exceptions=*/false);
}

/// Files below the folder, relative, sorted; folders only where they are empty. A link counts as a file.
std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    const bool folder_with_files =
        entry->is_directory(ignored) && !entry->is_symlink(ignored) && !fs::is_empty(entry->path(), ignored);
    if (!folder_with_files) names.push_back(entry->path().lexically_relative(folder).string());
  }
  if (error) fail_user("cannot read {}: {}", folder.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

json marker(const std::string& created_by, const std::string& kind) {
  return {{"created_by", created_by}, {"kind", kind}};
}

void write_marker(const fs::path& folder, const json& content) {
  write_text_atomically(folder / kFolderMarker, content.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

[[noreturn]] void fail_write(const fs::path& path, const std::error_code& error) {
  fail_user("cannot write {}: {}", path.string(), error.message());
}

void rename_folder(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail_write(to, error);
}

fs::path free_name(const fs::path& target) {
  for (int number = 1;; ++number) {
    fs::path name = target;
    name += fmt::format(".old-{}", number);
    std::error_code error;
    if (!fs::exists(fs::symlink_status(name, error))) return name;
  }
}

/// Python compiles an export's loader beside it; NFS keeps an open file that was removed.
bool left_by_the_system(const fs::path& name) {
  return name.filename().string().starts_with(".nfs") ||
         std::any_of(name.begin(), name.end(), [](const fs::path& part) { return part == "__pycache__"; });
}

}  // namespace

std::string folder_made_by(const fs::path& folder) {
  const json found = read_marker(folder);
  if (!found.is_object() || !found.contains("created_by") || !found["created_by"].is_string()) return "";
  return found["created_by"].get<std::string>();
}

std::string why_not_replaceable(const fs::path& folder) {
  std::error_code error;
  const auto status = fs::status(folder, error);
  if (!fs::exists(status)) return "";
  if (!fs::is_directory(status)) return "is a file, expected a folder, or a name that is free";
  const auto names = files_below(folder);
  if (names.empty()) return "";
  if (folder_made_by(folder).empty())
    return fmt::format("exists and was not made by vixen (no {}): give another folder, or remove it", kFolderMarker);
  std::set<std::string> ours = {kFolderMarker};
  const json listed = read_marker(folder).value("files", json::array());
  for (const auto& name : listed)
    if (name.is_string()) ours.insert(name.get<std::string>());
  for (const auto& name : names)
    if (!ours.contains(name) && !left_by_the_system(name))
      return fmt::format("holds {}, which vixen did not write: move it away, or give another folder", name);
  return "";
}

void write_folder_marker(const fs::path& folder, const std::string& created_by, const std::string& kind) {
  write_marker(folder, marker(created_by, kind));
}

FolderWriter::FolderWriter(const fs::path& target, std::string created_by, std::string kind)
    : target_(target.has_filename() ? target : target.parent_path()),
      aside_(partial_name(target_)),
      created_by_(std::move(created_by)),
      kind_(std::move(kind)) {
  std::error_code error;
  fs::remove_all(aside_, error);
  if (!error) fs::create_directories(aside_, error);
  if (error) fail_write(target_, error);
}

FolderWriter::~FolderWriter() {
  std::error_code ignored;
  if (open_) fs::remove_all(aside_, ignored);
}

fs::path FolderWriter::publish() {
  return publish(json::object());
}

fs::path FolderWriter::publish(const json& more) {
  VIXEN_CHECK(open_, "{} is published", target_.string());
  json content = marker(created_by_, kind_);
  content.update(more);
  content["files"] = files_below(aside_);
  write_marker(aside_, content);
  sync_path(aside_);

  fs::path kept;
  std::error_code error;
  if (fs::exists(fs::symlink_status(target_, error))) {
    const bool ours = why_not_replaceable(target_).empty();
    fs::path old = aside_;
    // Exchange the two names at once, so that there is a whole folder at every moment, where the file system can (not
    // NFS).
    if (::renameat2(AT_FDCWD, aside_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0) {
      old = free_name(target_);
      rename_folder(target_, old);
      rename_folder(aside_, target_);
    }
    if (ours) {
      fs::remove_all(old, error);
    } else {
      kept = old == aside_ ? free_name(target_) : old;
      if (old == aside_) rename_folder(old, kept);
    }
  } else {
    rename_folder(aside_, target_);
  }
  open_ = false;
  const auto parent = target_.parent_path();
  sync_path(parent.empty() ? fs::path(".") : parent);
  return kept;
}

}  // namespace vixen
