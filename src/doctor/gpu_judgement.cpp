#include "doctor/gpu_judgement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace vixen {
namespace {

constexpr double kGb = 1e9;
constexpr int kLeastMajor = 8;  // kernels are compiled for 8.0 and 9.0

// "13.0" as 1300.
int version_number(const std::string& version) {
  const size_t dot = version.find('.');
  return dot == version.npos ? 0 : std::atoi(version.c_str()) * 100 + std::atoi(version.c_str() + dot + 1);
}

}  // namespace

Findings judge_gpu(const GpuFacts& gpu, int cpus_node) {
  Findings findings;
  const std::string what = fmt::format("GPU {}", gpu.index);
  const std::string found =
      fmt::format("{}, compute capability {}.{}, {:.1f} of {:.1f} GB free", gpu.name, gpu.major, gpu.minor,
                  static_cast<double>(gpu.free_bytes) / kGb, static_cast<double>(gpu.total_bytes) / kGb);
  if (gpu.major < kLeastMajor)
    findings.push_back(bad(what, found, "kernels need compute capability 8.0 (A100) or later"));
  else if (gpu.free_bytes < gpu.total_bytes / 10 * 9)
    findings.push_back(
        note(what, found, "another program has memory there: `nvidia-smi` names it; plans count on all of it"));
  else
    findings.push_back(good(what, found));
  if (gpu.uncorrected_errors.value_or(0) > 0)
    findings.push_back(bad(what + " memory", fmt::format("{} uncorrected errors", *gpu.uncorrected_errors),
                           "the card is failing: ask the site to take it out (`nvidia-smi -q -d ECC`)"));
  else if (gpu.ecc)
    findings.push_back(
        *gpu.ecc ? good(what + " memory", "error correction is on, no error seen")
                 : note(what + " memory", "error correction is off", "a flipped bit goes unseen in long runs"));
  if (gpu.mig.value_or(false))
    findings.push_back(note(what + " MIG", "divided into instances",
                            "NCCL connects no instances: one rank a node, or ask for whole cards"));
  if (gpu.slowed.value_or(false))
    findings.push_back(bad(what + " clocks",
                           fmt::format("slowed down to {} of {} MHz by heat or its power supply",
                                       gpu.clock_mhz.value_or(0), gpu.most_clock_mhz.value_or(0)),
                           "every rank waits for the slowest: ask the site to look at the node's cooling"));
  else if (gpu.clock_mhz && gpu.most_clock_mhz)
    findings.push_back(
        good(what + " clocks", fmt::format("{} MHz now, {} at most", *gpu.clock_mhz, *gpu.most_clock_mhz)));
  if (gpu.numa_node >= 0 && cpus_node >= 0 && gpu.numa_node != cpus_node)
    findings.push_back(note(what + " place",
                            fmt::format("on NUMA node {}, its rank's CPUs on {}", gpu.numa_node, cpus_node),
                            "copies cross the socket: bind by GPU (--gpu-bind=closest, or leave binding to vixen)"));
  return findings;
}

Findings judge_node(const std::vector<GpuFacts>& gpus, int ranks, const CudaVersions& cuda) {
  Findings findings;
  if (version_number(cuda.driver) < version_number(cuda.runtime))
    findings.push_back(
        bad("driver",
            fmt::format("for CUDA {}, this build needs {}", cuda.driver.empty() ? "?" : cuda.driver, cuda.runtime),
            "ask for a newer driver, or build against an older PyTorch"));
  else
    findings.push_back(good("driver", fmt::format("for CUDA {}, runtime {}", cuda.driver, cuda.runtime)));
  const int n = static_cast<int>(gpus.size());
  if (ranks > n && n > 1)
    findings.push_back(
        bad("GPUs of the node", fmt::format("{} for {} ranks", n, ranks), "start as many ranks a node as it has GPUs"));
  else if (ranks < n)
    findings.push_back(note("GPUs of the node", fmt::format("{} for {} rank{}", n, ranks, ranks == 1 ? "" : "s"),
                            "the others idle: one rank a GPU uses them (mpirun -n, --ntasks-per-node)"));
  else
    findings.push_back(good("GPUs of the node", fmt::format("{}", n)));
  std::set<std::string> names;
  for (const auto& gpu : gpus) names.insert(gpu.name);
  if (names.size() > 1)
    findings.push_back(note("kinds of GPU", fmt::format("{}", names.size()),
                            "every rank gets the same work: the slowest sets the pace"));
  if (n > 1) {
    const bool all_reach = std::all_of(
        gpus.begin(), gpus.end(), [&](const GpuFacts& gpu) { return static_cast<int>(gpu.peers.size()) == n - 1; });
    findings.push_back(all_reach ? good("between GPUs", "all reach one another's memory")
                                 : note("between GPUs", "not all reach one another's memory",
                                        "collectives go through the host: is IOMMU or ACS on? (`nvidia-smi topo -m`)"));
  }
  return findings;
}

}  // namespace vixen
