// The launcher from the inside: environment variables, the processes above this one, their masks.
#include "comm/launcher.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string_view>

#include "device/cpu_affinity.hpp"

namespace vixen {
namespace {

constexpr const char* kSlurmStep = "SLURM_STEP_ID";

/// Open MPI's parameters that bind, without OMPI_MCA_ (release 4) or PRTE_MCA_ (release 5) in front.
constexpr std::array kBindingParameters = {
    "hwloc_base_binding_policy", "hwloc_base_bind_to_core",      "hwloc_base_bind_to_socket", "hwloc_base_cpu_set",
    "hwloc_base_cpu_list",       "hwloc_default_binding_policy", "hwloc_default_cpu_list",    "orte_rankfile",
    "rmaps_rank_file_path",      "rmaps_base_cpus_per_rank",     "rmaps_base_cpus_per_proc"};
constexpr std::array kMappingParameters = {"rmaps_base_mapping_policy", "rmaps_default_mapping_policy"};
constexpr std::array kBindingOptions = {"bind-to",  "bind-to-core", "bind-to-socket", "cpu-set",
                                        "cpu-list", "rankfile",     "cpus-per-proc",  "cpus-per-rank"};

template <size_t n>
bool is_one_of(std::string_view text, const std::array<const char*, n>& names) {
  return std::any_of(names.begin(), names.end(), [&](const char* name) { return text == name; });
}

/// "slot:PE=2", "numa", "ppr:1:socket": a mapping by an object binds to it, one by slots or nodes to nothing.
bool mapping_binds(std::string_view policy) {
  std::string lower(policy);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::array kObjects = {"hwthread", "core", "l1cache", "l2cache", "l3cache", "numa", "socket", "package"};
  std::istringstream pieces(lower);
  for (std::string piece; std::getline(pieces, piece, ':');)
    if (piece.starts_with("pe=") || piece.starts_with("pe-list=") || is_one_of(piece, kObjects)) return true;
  return false;
}

std::string wish_of_arguments(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i], value;
    const size_t equals = name.find('=');
    const bool joined = equals != name.npos;
    if (joined) value = name.substr(equals + 1), name.resize(equals);
    if (!joined && i + 1 < arguments.size()) value = arguments[i + 1];
    if (is_one_of(name, kBindingParameters)) return fmt::format("{} {}", name, value);  // behind --mca, --prtemca
    if (is_one_of(name, kMappingParameters) && mapping_binds(value)) return fmt::format("{} {}", name, value);
    if (!name.starts_with('-')) continue;
    const std::string_view option = std::string_view(name).substr(std::min(name.find_first_not_of('-'), name.size()));
    if (is_one_of(option, kBindingOptions) || option == "rf") return fmt::format("{} {}", name, value);
    if (option == "map-by" && mapping_binds(value)) return fmt::format("{} {}", name, value);
  }
  return {};
}

/// A whole small file of /proc; empty when it cannot be read.
std::string proc_file(pid_t process, const char* name) {
  std::ifstream file(fmt::format("/proc/{}/{}", process, name), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Parent and name of a process; the name may hold blanks and brackets.
struct ProcessEntry {
  pid_t parent = 0;
  std::string name;
};
ProcessEntry process_entry(pid_t process) {
  const std::string stat = proc_file(process, "stat");
  const size_t open = stat.find('('), close = stat.rfind(')');
  if (open == stat.npos || close == stat.npos || close < open) return {};
  ProcessEntry entry{0, stat.substr(open + 1, close - open - 1)};
  std::istringstream rest(stat.substr(close + 1));
  std::string state;
  rest >> state >> entry.parent;
  return entry;
}

/// The Open MPI launcher of this host above this process, with a shell, a script or a container's starter in between;
/// 0: not to be seen.
pid_t launcher_process() {
  constexpr int kMostSteps = 8;
  constexpr std::array kNames = {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prted", "prte"};
  pid_t process = getppid();
  for (int step = 0; step < kMostSteps && process > 1; ++step) {
    const auto entry = process_entry(process);
    if (is_one_of(entry.name.substr(0, entry.name.find('.')), kNames)) return process;  // mpirun.openmpi
    process = entry.parent;
  }
  return 0;
}

std::vector<std::string> arguments_of(pid_t process) {
  std::istringstream text(proc_file(process, "cmdline"));
  std::vector<std::string> arguments;
  for (std::string word; std::getline(text, word, '\0');) arguments.push_back(word);
  return arguments;
}

/// "", FALSE of OMP_PROC_BIND, none and disabled of KMP_AFFINITY.
bool is_no(std::string_view value) {
  std::string lower;
  for (const char c : value) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower.empty() || lower == "false" || lower == "none" || lower == "disabled";
}

}  // namespace

const char* process_environment(const char* name) {
  return std::getenv(name);
}

bool has_launcher(const Environment& environment) {
  constexpr std::array kNames = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"};
  return std::any_of(kNames.begin(), kNames.end(), [&](const char* name) { return environment(name) != nullptr; });
}

int launched_processes(const Environment& environment) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (const char* value = environment(name)) return std::max(1, std::atoi(value));
  }
  return 1;
}

SingletonEnvironment::SingletonEnvironment() {
  // Open MPI would start a daemon beside us, only to be able to spawn processes, which we never do.
  setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
  // All such processes of a user would share one session folder, and the end of one removes it under the start of
  // another. It holds nothing for a process that is alone.
  setenv("OMPI_MCA_orte_create_session_dirs", "0", 0);
  // By this variable Open MPI 4.1 takes a shell of `srun --pty bash` for a launcher of its processes, and gives up.
  if (const char* step = std::getenv(kSlurmStep)) slurm_step_ = step;
  unsetenv(kSlurmStep);
}

SingletonEnvironment::~SingletonEnvironment() {
  if (!slurm_step_.empty()) setenv(kSlurmStep, slurm_step_.c_str(), 1);
}

std::string binding_wish(const Environment& environment, const std::vector<std::string>& launcher_arguments) {
  for (const char* name : {"GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_PLACES", "OMP_PROC_BIND"}) {
    const char* value = environment(name);
    if (value != nullptr && !is_no(value)) return fmt::format("{}={}", name, value);
  }
  if (environment("OMPI_COMM_WORLD_SIZE") == nullptr) return {};
  for (const char* prefix : {"OMPI_MCA_", "PRTE_MCA_"}) {
    for (const char* parameter : kBindingParameters) {
      const std::string name = std::string(prefix) + parameter;
      if (const char* value = environment(name.c_str())) return fmt::format("{}={}", name, value);
    }
    for (const char* parameter : kMappingParameters) {
      const std::string name = std::string(prefix) + parameter;
      const char* value = environment(name.c_str());
      if (value != nullptr && mapping_binds(value)) return fmt::format("{}={}", name, value);
    }
  }
  return wish_of_arguments(launcher_arguments);
}

bool looks_bound_by_default(const std::vector<int>& own, const std::vector<int>& launcher,
                            const std::vector<CpuPlace>& places, bool hardware_threads) {
  if (own.empty() || own == launcher) return false;
  if (!std::includes(launcher.begin(), launcher.end(), own.begin(), own.end())) return true;
  if (hardware_threads && own.size() == 1) return true;
  std::map<int, CpuPlace> place;
  for (const auto& each : places) place[each.cpu] = each;
  const auto is_whole = [&](int CpuPlace::*part) {
    const int mine = place[own[0]].*part;
    std::vector<int> whole;
    for (const int cpu : launcher)
      if (place[cpu].*part == mine) whole.push_back(cpu);
    return whole == own;
  };
  return is_whole(&CpuPlace::core) || is_whole(&CpuPlace::node);
}

CpuGrant granted_cpus() {
  CpuGrant grant;
  grant.cpus = allowed_cpus(0);
  const bool under_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
  const pid_t launcher = under_mpirun ? launcher_process() : 0;
  grant.wish = binding_wish(process_environment, launcher > 0 ? arguments_of(launcher) : std::vector<std::string>());
  if (!under_mpirun || !grant.wish.empty()) return grant;
  const auto wide = launcher > 0 ? allowed_cpus(launcher) : std::vector<int>();
  if (wide.empty()) {
    if (std::getenv("OMPI_MCA_orte_bound_at_launch") != nullptr)
      grant.remark = "mpirun bound the ranks and cannot be seen from here: more with mpirun --bind-to none";
    return grant;
  }
  const bool hardware_threads = std::getenv("OMPI_MCA_hwloc_base_use_hwthreads_as_cpus") != nullptr;
  if (looks_bound_by_default(grant.cpus, wide, cpu_places(wide), hardware_threads)) grant.cpus = wide;
  return grant;
}

}  // namespace vixen
