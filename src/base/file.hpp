// Files: read-only mappings, atomic writes (write aside, fsync, rename), checksums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace vixen {

/// A whole file mapped read-only (shared pages: ranks of a node hold one copy). Movable, unmaps on destruction.
class MappedFile {
 public:
  /// Throws UserError naming the path when it cannot be opened or mapped. An empty file gives an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  /// Says that a range of bytes() was read for the last time: its pages leave this process' memory (they stay in the
  /// page cache, and come back when they are read all the same).
  void advise_done(std::span<const std::byte> range) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// The whole file as a string. Throws UserError naming the path.
std::string read_text(const std::filesystem::path& path);

/// Where a file or folder is written before it appears under its name: beside it, under a name that nobody else uses.
std::filesystem::path partial_name(const std::filesystem::path& path);

/// Calls `write(temporary_path)`, fsyncs what it wrote and renames it to `path` (then fsyncs the folder): a reader sees
/// the old file or the new one, never a part. A symbolic link stays, its target is replaced. On failure the temporary
/// file is removed and the error is rethrown; a full disk or missing permission is a UserError that names the path and
/// the reason.
void write_atomically(const std::filesystem::path& path,
                      const std::function<void(const std::filesystem::path&)>& write);

/// write_atomically of a text.
void write_text_atomically(const std::filesystem::path& path, std::string_view text);

/// Makes the folder and those above it where they are not there. Throws UserError (path, reason) when it cannot.
void make_folder(const std::filesystem::path& folder);

/// UserError naming `path` when its file system has less room than `bytes` (and a little more): "PATH: needs about ...,
/// ... free". `what` says of what: "the embeddings". Unknown room counts as enough.
void check_room(const std::filesystem::path& path, int64_t bytes, const std::string& what);

/// "PATH: reason" of what a standard library call met on the user's machine (permissions, names, disks); nothing for a
/// fault of our own.
std::optional<std::string> said_by_system(const std::filesystem::filesystem_error& error);

/// fsync of a file or folder; throws UserError (path, reason) on failure.
void sync_path(const std::filesystem::path& path);

/// XXH3 64-bit hash of bytes: the checksum of every file we write.
uint64_t checksum(std::span<const std::byte> bytes);
/// The same of a file's content, streamed.
uint64_t checksum_file(const std::filesystem::path& path);

}  // namespace vixen
