// CPUs, memory and limits of a rank's node.
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <fmt/format.h>

#include "base/file.hpp"
#include "comm/launcher.hpp"
#include "device/cpu_affinity.hpp"
#include "doctor/checks.hpp"
#include "doctor/machine_facts.hpp"
#include "kernels/choice.hpp"

namespace vixen {
namespace {

constexpr double kGb = 1e9;

Finding limit_finding(const char* name, int resource, rlim_t least, const std::string& why, const char* ulimit) {
  rlimit limit = {};
  ::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
  if (limit.rlim_cur == RLIM_INFINITY) return good(name, "unlimited");
  const std::string found = fmt::format("{}", limit.rlim_cur);
  if (limit.rlim_cur >= least) return good(name, found);
  return bad(name, found, fmt::format("{}: `ulimit {}`, or the limits of the batch system", why, ulimit));
}

}  // namespace

Findings check_cpus(Patient& patient) {
  auto& session = patient.session;
  Findings findings;
  const int asked = static_cast<int>(patient.config.threads);
  const auto cpus = allowed_cpus(0);
  const auto all = patient.host.all_gather_host(cpu_list_text(cpus));
  const auto nodes = patient.host.nodes();
  std::set<int> on_node;
  for (size_t rank = 0; rank < all.size(); ++rank)
    if (nodes[rank] == nodes[static_cast<size_t>(session.rank())])
      for (const int cpu : parse_cpu_list(all[rank])) on_node.insert(cpu);
  const std::string placement = session.cpus().own_text(asked);  // "rank 0: 4 threads on CPUs 0-3"
  findings.push_back(good("placement", placement.substr(placement.find(": ") + 2)));
  if (!on_node.empty() && session.local_size() > static_cast<int>(on_node.size()))
    findings.push_back(
        bad("ranks a node", fmt::format("{} ranks on {} CPUs", session.local_size(), on_node.size()),
            "they wait for one another at every collective: start fewer ranks a node, or ask for more CPUs "
            "(--cpus-per-task)"));
  else
    findings.push_back(good("ranks a node", fmt::format("{} on {} CPUs", session.local_size(), on_node.size())));
  const auto facts = cpu_facts();
  findings.push_back(good("instructions", fmt::format("{}, kernels for {}{}", facts.model, cpu_isa(),
                                                      facts.bf16_products ? ", products of bfloat16" : "")));
  if (facts.bf16_products)
    findings.push_back(
        note("bfloat16", "this CPU multiplies it faster than float32", "model.compute = bf16 trains faster here"));
  if (const char* held = process_environment("ATEN_CPU_CAPABILITY"); held != nullptr && *held != 0)
    findings.push_back(note("ATEN_CPU_CAPABILITY", held, "keeps PyTorch and vixen from what the CPU can do: unset it"));
  return findings;
}

Findings check_memory(Patient&) {
  Findings findings;
  const auto memory = memory_facts();
  const double gb = static_cast<double>(memory.available_bytes) / kGb;
  std::string found = fmt::format("{:.1f} of {:.1f} GB available", gb, static_cast<double>(memory.total_bytes) / kGb);
  if (memory.group_limit_bytes > 0)
    found += fmt::format(", this job may use {:.1f} GB", static_cast<double>(memory.group_limit_bytes) / kGb);
  findings.push_back(gb >= 2
                         ? good("memory", found)
                         : note("memory", found, "other programs use the rest: `vixen plan` says what a run takes"));
  constexpr const char* kShared = "/dev/shm";
  struct statvfs shared = {};
  if (::statvfs(kShared, &shared) != 0) {
    findings.push_back(bad("shared memory", "no /dev/shm", "ranks of a node exchange data there: mount a tmpfs"));
  } else {
    const double free = static_cast<double>(shared.f_bavail) * static_cast<double>(shared.f_frsize);
    const std::string room = fmt::format("{:.2f} GB free in /dev/shm", free / kGb);
    findings.push_back(free >= 0.5 * kGb ? good("shared memory", room)
                                         : bad("shared memory", room,
                                               "ranks of a node exchange data and keep lists there: containers need "
                                               "--shm-size=8g (Docker), or --ipc=host"));
  }
  findings.push_back(
      limit_finding("file size", RLIMIT_FSIZE, rlim_t{1} << 40, "checkpoints do not fit", "-f unlimited"));
  findings.push_back(
      limit_finding("open files", RLIMIT_NOFILE, 1024, "shards and sockets of all ranks are open at once", "-n 4096"));
  if (has_infiniband())
    findings.push_back(
        limit_finding("locked memory", RLIMIT_MEMLOCK, rlim_t{1} << 30, "InfiniBand pins its buffers", "-l unlimited"));
  return findings;
}

}  // namespace vixen
