#include "base/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/activity.hpp"
#include "base/check.hpp"
#include "base/file.hpp"
#include "base/same_file.hpp"

namespace vixen {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path)
    : path_(path), target_(write_target(path)), temporary_(partial_name(target_)) {
  const AtFile at_file(path.string());
  if (std::error_code ignored; std::filesystem::is_directory(target_, ignored))
    fail_user("cannot write {}: it is a folder, a file was expected", path.string());
  // Find out about permissions, missing folders and read-only disks here, where errno says which.
  ::unlink(temporary_.c_str());  // what a killed process left; never written through, should it be a link
  const int probe = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (probe < 0) fail_user("cannot write {}: {}", path.string(), reason(errno));
  ::close(probe);
}

AtomicFile::~AtomicFile() {
  if (!published_) ::unlink(temporary_.c_str());
}

void AtomicFile::publish() {
  const AtFile at_file(path_.string());
  sync_path(temporary_);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0)
    fail_user("cannot write {}: {}", path_.string(), reason(errno));
  published_ = true;
  const auto folder = target_.parent_path();
  sync_path(folder.empty() ? std::filesystem::path(".") : folder);
}

PieceWriter::PieceWriter(const std::filesystem::path& temporary, const std::filesystem::path& path)
    : path_(path), descriptor_(::open(temporary.c_str(), O_WRONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) fail_user("cannot write {}: {}", path.string(), reason(errno));
}

PieceWriter::~PieceWriter() {
  ::close(descriptor_);
}

void PieceWriter::write(int64_t offset, std::span<const std::byte> bytes) {
  const AtFile at_file(path_.string());
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_user("cannot write {}: {}", path_.string(), reason(written < 0 ? errno : ENOSPC));
    offset += written;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void PieceWriter::sync() {
  const AtFile at_file(path_.string());
  if (::fsync(descriptor_) != 0) fail_user("cannot write {}: {}", path_.string(), reason(errno));
}

std::string PieceWriter::identity() const {
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) fail_user("cannot write {}: {}", path_.string(), reason(errno));
  return fmt::format("{} {}", status.st_ino, status.st_size);
}

}  // namespace vixen
