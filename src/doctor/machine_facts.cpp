#include "doctor/machine_facts.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "base/file.hpp"
#include "device/control_groups.hpp"

namespace vixen {
namespace fs = std::filesystem;
namespace {

std::string text_of(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) ? read_text(path) : std::string();
}

// The value of the first line "name : value".
std::string field(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (colon == line.npos || line.rfind(name, 0) != 0) continue;
    if (line.find_first_not_of(" \t", name.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == line.npos ? std::string() : line.substr(begin);
  }
  return {};
}

struct GroupMemory {
  int64_t limit = 0, used = 0;  // limit 0: none
};

// Of this process' control groups the one that leaves least.
GroupMemory tightest_group() {
  const auto bytes = [](const fs::path& folder, const char* unified, const char* legacy) {
    int64_t found = std::atoll(text_of(folder / unified).c_str());  // "max" reads as 0
    if (found == 0) found = std::atoll(text_of(folder / legacy).c_str());
    return found < int64_t{1} << 60 ? found : 0;
  };
  GroupMemory tightest;
  for (const auto& folder : group_folders(own_groups_text(), "memory")) {
    const GroupMemory group{bytes(folder, "memory.max", "memory.limit_in_bytes"),
                            bytes(folder, "memory.current", "memory.usage_in_bytes")};
    const bool tighter = tightest.limit == 0 || group.limit - group.used < tightest.limit - tightest.used;
    if (group.limit > 0 && tighter) tightest = group;
  }
  return tightest;
}

}  // namespace

CpuFacts parse_cpu_facts(const std::string& text) {
  CpuFacts facts;
  facts.model = field(text, "model name");
  utsname system = {};
  if (facts.model.empty() && ::uname(&system) == 0) facts.model = system.machine;
  std::istringstream flags(field(text, "flags") + " " + field(text, "Features"));
  for (std::string flag; flags >> flag;)
    facts.bf16_products = facts.bf16_products || flag == "avx512_bf16" || flag == "amx_bf16" || flag == "bf16";
  return facts;
}

CpuFacts cpu_facts() {
  return parse_cpu_facts(text_of("/proc/cpuinfo"));
}

MemoryFacts parse_memory_facts(const std::string& text, int64_t limit, int64_t used) {
  MemoryFacts facts;
  facts.total_bytes = std::atoll(field(text, "MemTotal").c_str()) * 1024;
  facts.available_bytes = std::atoll(field(text, "MemAvailable").c_str()) * 1024;
  if (limit > 0 && limit < facts.total_bytes) {
    facts.group_limit_bytes = limit;
    facts.available_bytes = std::min(facts.available_bytes, std::max<int64_t>(0, limit - used));
  }
  return facts;
}

MemoryFacts memory_facts() {
  const auto group = tightest_group();
  return parse_memory_facts(text_of("/proc/meminfo"), group.limit, group.used);
}

bool has_infiniband(const fs::path& sysfs) {
  std::error_code error;
  const auto folder = sysfs / "class/infiniband";
  return fs::is_directory(folder, error) && !fs::is_empty(folder, error);
}

}  // namespace vixen
