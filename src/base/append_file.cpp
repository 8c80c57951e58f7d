#include "base/append_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/activity.hpp"
#include "base/check.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

std::string cannot_write(const std::filesystem::path& path, int error) {
  return fmt::format("cannot write {}: {}", shown(path.string()), std::generic_category().message(error));
}

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path)
    : path_(path), descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw UserError(cannot_write(path_, errno));
}

AppendFile::~AppendFile() {
  ::close(descriptor_);
}

bool AppendFile::append(std::string_view piece) {
  const AtFile at_file(path_.string());
  outstanding_ += piece;
  failure_.clear();
  size_t done = 0;
  while (done < outstanding_.size()) {
    const ssize_t put = ::write(descriptor_, outstanding_.data() + done, outstanding_.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      failure_ = cannot_write(path_, put < 0 ? errno : ENOSPC);
      break;
    }
    done += static_cast<size_t>(put);
  }
  outstanding_.erase(0, done);
  return outstanding_.empty();
}

}  // namespace vixen
