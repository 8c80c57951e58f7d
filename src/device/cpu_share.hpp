// Which CPUs of a node each of its ranks computes on: the partition, as plain values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vixen {

/// The place of a CPU (a hardware thread, by the kernel's number) in the topology.
struct CpuPlace {
  int cpu = 0;
  int core = 0;  // CPUs of one core have one number here, any
  int node = 0;  // NUMA node
};

/// What the ranks of a node get.
struct CpuShares {
  std::vector<std::vector<int>> cpus;  // of each rank, ascending; empty only where its mask is
  std::vector<int> threads;            // of each rank, at least 1
  bool shared = false;                 // too few CPUs: some are in the shares of several ranks, which take one thread
};

/// Deals CPUs to the ranks of a node: disjoint shares as even as possible, whole cores before their hardware threads,
/// neighbours within a NUMA node together.
/// masks[r]: the CPUs that rank r may use, ascending, which may overlap others' in any way; its share is within.
/// wanted_nodes[r]: the NUMA node that rank r should be near, -1: any; left aside where that node has too few CPUs for
/// the ranks that want it. topology: places of CPUs; one that it lacks counts as a core of its own on node 0.
/// A function of its arguments: every rank computes the same.
CpuShares share_cpus(const std::vector<std::vector<int>>& masks, const std::vector<int>& wanted_nodes,
                     const std::vector<CpuPlace>& topology);

/// Lowers shares.threads to `limit` CPUs' worth of time for all ranks together (0: no limit), each at least 1.
void limit_threads(CpuShares& shares, int limit);

/// {0, 1, 2, 8} <-> "0-2,8", the kernel's way to write lists. What is not a list reads as the numbers in front of it.
std::string cpu_list_text(const std::vector<int>& cpus);
std::vector<int> parse_cpu_list(std::string_view text);

}  // namespace vixen
