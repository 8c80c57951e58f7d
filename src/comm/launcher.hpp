// Who started this process, how many with it, and which CPUs it was given to use.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "device/cpu_share.hpp"

namespace vixen {

/// Looks up an environment variable; nullptr when it is not set. A parameter, so that tests need no real launcher.
using Environment = std::function<const char*(const char*)>;
/// std::getenv.
const char* process_environment(const char* name);

/// True when mpirun or a srun that speaks PMI started this process: MPI_Init will find its peers.
bool has_launcher(const Environment& environment);

/// How many processes the nearest launcher says it started; 1 if none says so. mpirun within a SLURM step counts, not
/// the step.
int launched_processes(const Environment& environment);

/// For its lifetime, the environment in which MPI_Init of a process that nobody launched (has_launcher is false) comes
/// up by itself, at once and alone, also in a shell within a SLURM step (srun --pty bash). Not thread-safe.
class SingletonEnvironment {
 public:
  SingletonEnvironment();
  ~SingletonEnvironment();
  SingletonEnvironment(const SingletonEnvironment&) = delete;
  SingletonEnvironment& operator=(const SingletonEnvironment&) = delete;

 private:
  std::string slurm_step_;
};

/// The user's own wish about binding, as he gave it ("--bind-to", "OMP_PLACES=cores"), empty when there is none: Open
/// MPI's options and variables (release 4 hands options to its processes as variables; of release 5 only the launcher's
/// command line tells), and OpenMP's, whose places were laid out when this process was loaded.
std::string binding_wish(const Environment& environment, const std::vector<std::string>& launcher_arguments);

/// True when Open MPI by itself may have given a process `own` of the `launcher`'s CPUs: one whole core, all of a NUMA
/// node, or CPUs that are not the launcher's (release 4.1 counts cores from 0 also where `taskset` keeps mpirun to
/// others). What a wrapper like taskset gives beside it mostly looks otherwise. hardware_threads: mpirun counts them.
bool looks_bound_by_default(const std::vector<int>& own, const std::vector<int>& launcher,
                            const std::vector<CpuPlace>& places, bool hardware_threads);

/// The CPUs a process may use, before its node's ranks divide them.
struct CpuGrant {
  std::vector<int> cpus;  // ascending; empty: the kernel did not tell
  std::string wish;       // binding_wish: `cpus` is what the process was given, to be kept
  std::string remark;     // what the log should say beside it, or empty
};

/// This process' grant: its own mask; under mpirun its launcher's, which Open MPI's default binding has not narrowed
/// (one or two ranks: to a core each). Read it before MPI_Init, which may bind too.
CpuGrant granted_cpus();

}  // namespace vixen
