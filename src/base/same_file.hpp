// Whether two paths are one file, whatever they are called: links, other spellings, file systems that ignore case.
#pragma once

#include <filesystem>

namespace vixen {

/// Where a write to `path` goes: the target of a symbolic link (also one whose target is not there yet), else the
/// path.
std::filesystem::path write_target(const std::filesystem::path& path);

/// True when both exist and are one file or folder (device and inode), or neither exists and both resolve to one name.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

/// True when `path` (which need not exist) is `folder` or is inside it.
bool lies_within(const std::filesystem::path& path, const std::filesystem::path& folder);

}  // namespace vixen
