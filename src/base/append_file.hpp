// A file that grows piece by piece, on a disk that may be full for a while.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace vixen {

class AppendFile {
 public:
  /// Opens `path`, and makes it where it is not there. UserError (path, reason) when it cannot.
  explicit AppendFile(const std::filesystem::path& path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// Hands what is outstanding, and then `piece`, to the operating system. What it does not take (a full disk) stays in
  /// memory for the next call, from the very byte on, so that the file is whole once there is room. Returns whether
  /// nothing is outstanding.
  bool append(std::string_view piece);
  /// What stands in the way, "" where nothing is outstanding: "cannot write PATH: No space left on device".
  const std::string& failure() const { return failure_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_;
  std::string outstanding_, failure_;
};

}  // namespace vixen
