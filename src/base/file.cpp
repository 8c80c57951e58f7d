// Mappings, atomic writes and checksums over POSIX calls.
#include "base/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "base/activity.hpp"
#include "base/atomic_file.hpp"
#include "base/check.hpp"
#include "base/same_file.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

/// An open file descriptor, closed at the end of its scope.
class Descriptor {
 public:
  /// Never waits: the other end of a pipe may never come. Regular files know no O_NONBLOCK.
  Descriptor(const std::filesystem::path& path, int flags, mode_t mode = 0)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, mode)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct stat regular_file_status(const Descriptor& file, const std::filesystem::path& path) {
  struct stat status = {};
  if (!file.valid() || ::fstat(file.get(), &status) != 0) fail_user("cannot open {}: {}", path.string(), reason(errno));
  if (!S_ISREG(status.st_mode))
    fail_user("cannot read {}: it is a folder or a device, a file was expected", path.string());
  return status;
}

/// Calls visit(data, size) for consecutive pieces of a file.
template <typename Visit>
void for_each_piece(const std::filesystem::path& path, Visit visit) {
  const AtFile at_file(path.string());
  const Descriptor file(path, O_RDONLY);
  regular_file_status(file, path);
  std::vector<char> buffer(size_t{1} << 20);
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_user("cannot read {}: {}", path.string(), reason(errno));
    if (got == 0) return;
    visit(buffer.data(), static_cast<size_t>(got));
  }
}

bool is_users_fault(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EIO:
    case ENAMETOOLONG:
    case ETXTBSY:
    case ENOTEMPTY:
    case ELOOP:
      return true;
    default:
      return false;
  }
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  const auto folder = path.parent_path();
  return folder.empty() ? std::filesystem::path(".") : folder;
}

/// True when the file system of `folder` has no room left: how libraries that hide errno (HDF5) are told apart.
bool disk_is_full(const std::filesystem::path& folder) {
  struct statvfs status = {};
  constexpr uint64_t kAlmostNothing = 64 << 10;
  return ::statvfs(folder.c_str(), &status) == 0 && uint64_t{status.f_bavail} * status.f_frsize < kAlmostNothing;
}

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

/// Rethrows the exception under way, as a UserError that names `path` where the cause is the user's machine.
[[noreturn]] void rethrow_naming(const std::filesystem::path& path, const std::filesystem::path& temporary, bool full) {
  try {
    throw;
  } catch (const UserError& error) {
    const std::string named = replace_all(error.what(), shown(temporary.string()), shown(path.string()));
    if (named == error.what()) throw;  // as the kind of UserError that it is
    throw UserError(named);
  } catch (const std::system_error& error) {
    const auto& code = error.code();
    const bool posix = code.category() == std::generic_category() || code.category() == std::system_category();
    if (posix && is_users_fault(code.value())) fail_user("cannot write {}: {}", path.string(), reason(code.value()));
    if (full) fail_user("cannot write {}: {}", path.string(), reason(ENOSPC));
    throw;
  } catch (const std::exception&) {
    if (full) fail_user("cannot write {}: {}", path.string(), reason(ENOSPC));
    throw;
  }
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const AtFile at_file(path.string());
  const Descriptor file(path, O_RDONLY);
  const auto status = regular_file_status(file, path);
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED) fail_user("cannot map {}: {}", path.string(), reason(errno));
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::advise_done(std::span<const std::byte> range) const {
  VIXEN_CHECK(range.empty() || (range.data() >= data_ && range.data() + range.size() <= data_ + size_),
              "a range outside the mapping of {}", path_.string());
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t first = (static_cast<size_t>(range.data() - data_) + page - 1) / page * page;  // whole pages only
  const size_t last = static_cast<size_t>(range.data() + range.size() - data_) / page * page;
  // Only advice: a kernel that cannot take it loses nothing.
  if (first < last) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

std::string read_text(const std::filesystem::path& path) {
  std::string text;
  for_each_piece(path, [&text](const char* data, size_t size) { text.append(data, size); });
  return text;
}

void make_folder(const std::filesystem::path& folder) {
  const AtFile at_file(folder.string());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_user("{}: cannot create the folder: {}", folder.string(), error.message());
}

std::optional<std::string> said_by_system(const std::filesystem::filesystem_error& error) {
  if (!is_users_fault(error.code().value())) return std::nullopt;
  return fmt::format("{}: {}", shown(error.path1().string()), error.code().message());
}

void sync_path(const std::filesystem::path& path) {
  const AtFile at_file(path.string());
  const Descriptor file(path, O_RDONLY);
  if (!file.valid()) fail_user("cannot open {}: {}", path.string(), reason(errno));
  // Some network file systems cannot sync a folder and say EINVAL: nothing more can be done there.
  if (::fsync(file.get()) != 0 && errno != EINVAL) fail_user("cannot write {}: {}", path.string(), reason(errno));
}

std::filesystem::path partial_name(const std::filesystem::path& path) {
  auto name = path;
  name += ".vixen-partial";  // fixed: what a killed process left is overwritten by the next
  return name;
}

void check_room(const std::filesystem::path& path, int64_t bytes, const std::string& what) {
  auto folder = folder_of(write_target(path));
  std::error_code error;
  while (!std::filesystem::exists(folder, error) && folder.has_relative_path()) folder = folder_of(folder);
  struct statvfs status = {};
  if (::statvfs(folder.c_str(), &status) != 0 || status.f_blocks == 0) return;  // some file systems do not say
  constexpr int64_t kHeader = 1 << 20;
  int64_t free = 0;
  if (__builtin_mul_overflow(status.f_bavail, status.f_frsize, &free)) return;  // "no end of room"
  if (bytes <= free - kHeader) return;
  fail_user("{}: {} need about {:.1f} MB, its file system has {:.1f} MB free: make room, or give another place",
            path.string(), what, static_cast<double>(bytes + kHeader) / 1e6, static_cast<double>(free) / 1e6);
}

void write_atomically(const std::filesystem::path& path,
                      const std::function<void(const std::filesystem::path&)>& write) {
  const AtFile at_file(path.string());
  AtomicFile file(path);
  try {
    write(file.temporary());
    file.publish();
  } catch (...) {
    rethrow_naming(path, file.temporary(), disk_is_full(folder_of(file.temporary())));
  }
}

void write_text_atomically(const std::filesystem::path& path, std::string_view text) {
  write_atomically(path, [&](const std::filesystem::path& temporary) {
    const Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (!file.valid()) fail_user("cannot write {}: {}", path.string(), reason(errno));
    for (size_t done = 0; done < text.size();) {
      const ssize_t put = ::write(file.get(), text.data() + done, text.size() - done);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) fail_user("cannot write {}: {}", path.string(), reason(errno));
      done += static_cast<size_t>(put);
    }
  });
}

uint64_t checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t checksum_file(const std::filesystem::path& path) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  VIXEN_CHECK(state != nullptr && XXH3_64bits_reset(state.get()) == XXH_OK, "XXH3 state");
  for_each_piece(path, [&state](const char* data, size_t size) { XXH3_64bits_update(state.get(), data, size); });
  return XXH3_64bits_digest(state.get());
}

}  // namespace vixen
