// What the kernel says about CPUs: affinity masks, topology, how much of their time a container gets.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "device/cpu_share.hpp"

namespace vixen {

/// The CPUs that a process may run on (0: the calling thread), ascending; empty when the kernel does not tell.
std::vector<int> allowed_cpus(pid_t process);

/// Lets every thread of this process, and those they will start, run on these CPUs only; wider than before is possible.
/// False when the kernel refuses. Call it while no other thread starts threads.
bool confine_to(const std::vector<int>& cpus);

/// Core and NUMA node of each of these CPUs, from sysfs; what is not told there is left out or 0.
std::vector<CpuPlace> cpu_places(const std::vector<int>& cpus, const std::filesystem::path& sysfs = "/sys");

/// The NUMA node of a PCI device ("0000:3b:00.0"); -1 where there is only one, or none is told.
int numa_node_of(const std::string& pci_bus_id, const std::filesystem::path& sysfs = "/sys");

/// CPUs' worth of time that the control groups of this process allow it (cpu.max, cpu.cfs_quota_us; the least of the
/// group and those above it), rounded up; 0: no limit. own_groups: the text of /proc/self/cgroup.
int cpu_quota(const std::string& own_groups, const std::filesystem::path& groups = "/sys/fs/cgroup");

}  // namespace vixen
