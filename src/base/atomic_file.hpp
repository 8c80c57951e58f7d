// A file that is written aside and appears under its name when it is whole, by one process or by several.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace vixen {

/// Makes the temporary file beside `path` (of a symbolic link: beside its target), empty; publish() fsyncs it and
/// renames it to `path`, then fsyncs the folder: a reader sees the old file or the new one, never a part. Without
/// publish() the temporary file is removed in the end.
class AtomicFile {
 public:
  /// UserError (path, reason) where no file can be made there.
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& temporary() const { return temporary_; }
  void publish();

 private:
  std::filesystem::path path_, target_, temporary_;
  bool published_ = false;
};

/// Writes pieces of a file that is there, at any offsets. Errors name `path`, not the temporary file.
class PieceWriter {
 public:
  /// UserError when the file cannot be opened.
  PieceWriter(const std::filesystem::path& temporary, const std::filesystem::path& path);
  ~PieceWriter();
  PieceWriter(const PieceWriter&) = delete;
  PieceWriter& operator=(const PieceWriter&) = delete;

  /// UserError on a full disk and the like.
  void write(int64_t offset, std::span<const std::byte> bytes);
  void sync();
  /// The file's inode and size: processes that find the same hold one file.
  std::string identity() const;

 private:
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace vixen
