// Affinity masks, sysfs and control groups, as plain values.
#include "device/cpu_affinity.hpp"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "device/control_groups.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;

/// The first line of a small file of the kernel's; empty when it cannot be read.
std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> found;
  for (std::string word; in >> word;) found.push_back(word);
  return found;
}

std::optional<double> number(const std::string& text) {
  try {
    return std::stod(text);
  } catch (const std::exception&) {  // "max", or nothing
    return std::nullopt;
  }
}

/// Quota over period of one group's folder, in CPUs.
std::optional<double> quota_of(const fs::path& folder) {
  std::optional<double> quota, period;
  if (const auto both = words(first_line(folder / "cpu.max")); both.size() == 2) {
    quota = number(both[0]), period = number(both[1]);
  } else {
    quota = number(first_line(folder / "cpu.cfs_quota_us")), period = number(first_line(folder / "cpu.cfs_period_us"));
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;  // -1: no limit
  return *quota / *period;
}

}  // namespace

std::vector<int> allowed_cpus(pid_t process) {
  // The kernel refuses masks smaller than the machine's possible CPUs: grow until it fits.
  for (int most = 1024; most <= (1 << 20); most *= 4) {
    std::vector<char> storage(CPU_ALLOC_SIZE(most));
    auto* mask = reinterpret_cast<cpu_set_t*>(storage.data());
    if (sched_getaffinity(process, storage.size(), mask) == 0) {
      std::vector<int> cpus;
      for (int cpu = 0; cpu < most; ++cpu)
        if (CPU_ISSET_S(static_cast<size_t>(cpu), storage.size(), mask)) cpus.push_back(cpu);
      return cpus;
    }
    if (errno != EINVAL) break;
  }
  return {};
}

bool confine_to(const std::vector<int>& cpus) {
  if (cpus.empty()) return false;
  const auto most = static_cast<size_t>(cpus.back()) + 1;
  std::vector<char> storage(CPU_ALLOC_SIZE(most));
  auto* mask = reinterpret_cast<cpu_set_t*>(storage.data());
  for (const int cpu : cpus) CPU_SET_S(static_cast<size_t>(cpu), storage.size(), mask);
  if (sched_setaffinity(0, storage.size(), mask) != 0) return false;
  // MPI, libgomp and a BLAS may have threads already. One that has just ended is no failure.
  std::error_code gone;
  for (fs::directory_iterator task("/proc/self/task", gone), end; !gone && task != end; task.increment(gone)) {
    const int thread = std::atoi(task->path().filename().c_str());
    if (thread > 0 && sched_setaffinity(thread, storage.size(), mask) != 0 && errno != ESRCH) return false;
  }
  return true;
}

std::vector<CpuPlace> cpu_places(const std::vector<int>& cpus, const fs::path& sysfs) {
  std::map<int, int> node_of;
  std::error_code none;
  for (fs::directory_iterator entry(sysfs / "devices/system/node", none), end; !none && entry != end;
       entry.increment(none)) {
    const std::string name = entry->path().filename();
    if (!name.starts_with("node") || name.find_first_not_of("0123456789", 4) != name.npos || name.size() < 5) continue;
    for (const int cpu : parse_cpu_list(first_line(entry->path() / "cpulist")))
      node_of[cpu] = std::atoi(name.c_str() + 4);
  }
  std::vector<CpuPlace> places;
  for (const int cpu : cpus) {
    const auto folder = sysfs / "devices/system/cpu" / ("cpu" + std::to_string(cpu)) / "topology";
    // The lowest of a core's hardware threads names the core: core_id repeats from socket to socket.
    auto siblings = parse_cpu_list(first_line(folder / "thread_siblings_list"));
    if (siblings.empty()) siblings = {cpu};
    const auto node = node_of.find(cpu);
    places.push_back(
        {cpu, *std::min_element(siblings.begin(), siblings.end()), node == node_of.end() ? 0 : node->second});
  }
  return places;
}

int numa_node_of(const std::string& pci_bus_id, const fs::path& sysfs) {
  std::string id = pci_bus_id;  // CUDA writes it in upper case, the kernel in lower
  std::transform(id.begin(), id.end(), id.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto node = number(first_line(sysfs / "bus/pci/devices" / id / "numa_node"));
  return node && *node >= 0 ? static_cast<int>(*node) : -1;
}

int cpu_quota(const std::string& own_groups, const fs::path& groups) {
  std::optional<double> least;
  for (const auto& folder : group_folders(own_groups, "cpu", groups))
    if (const auto quota = quota_of(folder)) least = std::min(least.value_or(*quota), *quota);
  constexpr double kMost = 1 << 20;
  return least ? static_cast<int>(std::ceil(std::min(*least, kMost))) : 0;
}

}  // namespace vixen
