// Folders that the program writes as a whole: written aside, published at once, and recognised by a marker that lists
// what is ours in them.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace vixen {

inline constexpr const char* kFolderMarker = ".vixen.json";

/// What prevents replacing `folder` by a new one; "" when nothing does: it is not there, is empty, or holds
/// a marker and nothing but the files that the marker lists. The text continues "FOLDER: ".
std::string why_not_replaceable(const std::filesystem::path& folder);

/// Writes a folder aside and puts it in its place at once. Local: one process writes.
///
///   FolderWriter writer("out/model", created_by("export"), "export merged");
///   ... files below writer.folder() ...
///   writer.publish();
///
/// Without publish() the folder written aside goes.
class FolderWriter {
 public:
  /// UserError (path, reason) when it cannot be made. A leftover of a killed process is overwritten.
  FolderWriter(const std::filesystem::path& target, std::string created_by, std::string kind);
  ~FolderWriter();
  FolderWriter(const FolderWriter&) = delete;
  FolderWriter& operator=(const FolderWriter&) = delete;

  const std::filesystem::path& folder() const { return aside_; }

  /// Writes the marker (with `more` among its members), syncs, and replaces what is at the target. What
  /// why_not_replaceable says no to is kept beside it as "NAME.old-1", never removed, and its path returned (else
  /// empty).
  std::filesystem::path publish();
  std::filesystem::path publish(const nlohmann::json& more);

 private:
  std::filesystem::path target_, aside_;
  std::string created_by_, kind_;
  bool open_ = true;
};

/// Writes the marker of a folder that grows while it is used (a run): created_by and kind, no list of files.
void write_folder_marker(const std::filesystem::path& folder, const std::string& created_by, const std::string& kind);

/// created_by of the folder's marker; "" when there is none that can be read.
std::string folder_made_by(const std::filesystem::path& folder);

}  // namespace vixen
