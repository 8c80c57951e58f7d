#include <fmt/format.h>

#include <set>

#include "device/cpu_affinity.hpp"
#include "device/device.hpp"
#include "doctor/checks.hpp"
#include "doctor/gpu_judgement.hpp"

namespace vixen {
namespace {

// The NUMA node of all CPUs of this rank; -1: several.
int own_numa_node() {
  std::set<int> nodes;
  for (const auto& place : cpu_places(allowed_cpus(0))) nodes.insert(place.node);
  return nodes.size() == 1 ? *nodes.begin() : -1;
}

}  // namespace

Findings check_gpus(Patient& patient) {
  auto& session = patient.session;
  Findings findings;
  const int own = gpu_of_rank(session.local_rank(), gpu_count());
  const auto gpus = gpu_facts(own);
  const bool wanted = patient.config.device == DeviceKind::kCuda;
  if (gpus.empty()) {
    const std::string found = has_cuda_build() ? "none is visible" : "this build has no CUDA";
    findings.push_back(
        wanted ? bad("GPUs", found,
                     "--device cuda needs one a rank: is the driver loaded (`nvidia-smi`), did the job ask for GPUs "
                     "(--gpus-per-node), is CUDA_VISIBLE_DEVICES empty?")
               : skipped("GPUs", found));
  } else {
    // Where every rank sees one GPU it is its own; else all see all.
    const int ranks = gpus.size() == 1 && session.local_size() > 1 ? 1 : session.local_size();
    findings = judge_node(gpus, ranks, cuda_versions());
    if (own < static_cast<int>(gpus.size()))
      for (auto& finding : judge_gpu(gpus[static_cast<size_t>(own)], own_numa_node()))
        findings.push_back(std::move(finding));
  }
  // Collective from here: all ranks or none.
  const bool can = own < static_cast<int>(gpus.size());
  if (patient.host.max_host(can ? int64_t{0} : int64_t{1}) != 0) return findings;
  select_device(DeviceKind::kCuda, session.local_rank());
  patient.gpus = session.make_communicator(DeviceKind::kCuda, patient.session.patience());
  findings.push_back(good("NCCL", fmt::format("{} ranks connected", session.world_size())));
  return findings;
}

}  // namespace vixen
