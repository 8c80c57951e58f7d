// What the kernel says of a node's CPUs and memory, as plain values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace vixen {

struct CpuFacts {
  std::string model;           // "AMD EPYC 9554", or the architecture
  bool bf16_products = false;  // instructions that multiply bfloat16
};
/// text: of /proc/cpuinfo.
CpuFacts parse_cpu_facts(const std::string& text);
CpuFacts cpu_facts();

struct MemoryFacts {
  int64_t total_bytes = 0;
  int64_t available_bytes = 0;    // without swapping; within the limit of the control group
  int64_t group_limit_bytes = 0;  // of this process' control group; 0: none
};
/// text: of /proc/meminfo. limit, used: of the control group in bytes, limit 0: none.
MemoryFacts parse_memory_facts(const std::string& text, int64_t limit, int64_t used);
MemoryFacts memory_facts();

/// Whether this node has an InfiniBand (or RoCE) adapter.
bool has_infiniband(const std::filesystem::path& sysfs = "/sys");

}  // namespace vixen
