// Identity of files by device and inode; of names that are not there yet by the folders that are.
#include "base/same_file.hpp"

#include <system_error>

namespace vixen {
namespace fs = std::filesystem;
namespace {

/// The path with every existing part resolved; the path itself where the system refuses to tell.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  auto whole = fs::weakly_canonical(fs::absolute(path, error), error);
  if (error) return path;
  return whole.has_filename() ? whole : whole.parent_path();  // "folder/" is folder
}

}  // namespace

fs::path write_target(const fs::path& path) {
  std::error_code error;
  fs::path target = path;
  for (int links = 0; links < 40 && fs::is_symlink(target, error); ++links)
    target = target.parent_path() / fs::read_symlink(target, error);  // an absolute target replaces the whole
  return target;
}

bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  return resolved(a) == resolved(b);
}

bool lies_within(const fs::path& path, const fs::path& folder) {
  fs::path at = resolved(path);
  while (true) {
    if (same_file(at, folder)) return true;
    const auto parent = at.parent_path();
    if (parent == at || parent.empty()) return false;
    at = parent;
  }
}

}  // namespace vixen
