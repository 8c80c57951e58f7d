// What a file is when it is not what was expected: for messages.
#pragma once

#include <filesystem>
#include <string>

namespace vixen {

/// What a path holds, told by its first bytes, as words that follow "found": "a Git LFS pointer, not the file itself
/// (run `git lfs pull`)", "an HTML page (a refused download?)", "a zip archive", "an empty file", "a folder",
/// "text that begins 'Entry not found'". "" when it cannot be told or read. Never throws.
std::string what_it_is(const std::filesystem::path& path);

/// ", found " + what_it_is(), or "" when that is: for the end of a message.
std::string found_instead(const std::filesystem::path& path);

}  // namespace vixen
