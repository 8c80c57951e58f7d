#include "device/control_groups.hpp"

#include <fstream>
#include <iterator>
#include <sstream>

namespace vixen {
namespace fs = std::filesystem;

std::string own_groups_text() {
  std::ifstream file("/proc/self/cgroup");
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<fs::path> group_folders(const std::string& own_groups, std::string_view controller,
                                    const fs::path& groups) {
  std::vector<fs::path> folders;
  std::istringstream lines(own_groups);
  for (std::string line; std::getline(lines, line);) {
    // "4:cpu,cpuacct:/path" (version 1) or "0::/path" (version 2)
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::vector<fs::path> roots;
    if (controllers.empty()) {
      roots = {groups, groups / "unified"};
    } else if (("," + controllers + ",").find("," + std::string(controller) + ",") != line.npos) {
      roots = {groups / controller, groups / controllers};
    }
    // Within a container the path may be the host's, which is not there: then its parents are looked at, up to the
    // mount, which is the container's own group.
    const fs::path own = fs::path(line.substr(second + 1)).lexically_normal().relative_path();
    for (const auto& root : roots)
      for (fs::path path = own;; path = path.parent_path()) {
        folders.push_back(root / path);
        if (path.empty()) break;
      }
  }
  return folders;
}

}  // namespace vixen
