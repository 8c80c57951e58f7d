// Where the kernel keeps the limits of this process' control groups.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace vixen {

/// The text of /proc/self/cgroup; empty where there is none.
std::string own_groups_text();

/// Folders of a process' group and of those above it, for a controller ("cpu", "memory"): the limits of all hold. Some
/// may not be there. own_groups: own_groups_text(), or a test's.
std::vector<std::filesystem::path> group_folders(const std::string& own_groups, std::string_view controller,
                                                 const std::filesystem::path& groups = "/sys/fs/cgroup");

}  // namespace vixen
