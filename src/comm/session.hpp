// The life of a job: MPI from start to end. The outermost object of main; communicators die before it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/device_kind.hpp"
#include "comm/communicator.hpp"
#include "comm/cpu_placement.hpp"
#include "comm/job_watch.hpp"
#include "comm/patience.hpp"

namespace vixen {

/// Initialises MPI (MPI_THREAD_SERIALIZED asked for; MPI_ERRORS_RETURN set) and finalises it on destruction. Works
/// without a launcher (W = 1), also in a shell within a SLURM step. One instance a process, made before anything starts
/// OpenMP threads: it divides the CPUs that the job has on a node among its ranks there (disjoint shares, also where
/// mpirun bound each to a core of its own; with `gpus`, near GPU `local_rank`) and confines this process to its own.
/// UserError when a launcher started several processes that MPI does not connect.
class MpiSession {
 public:
  MpiSession(int* argc, char*** argv, bool gpus = false);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  /// Rank among the processes of this node (the GPU to use), and how many there are.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  const std::string& host() const { return host_; }

  /// The CPUs of this node's ranks, and the threads that follow from them.
  const CpuPlacement& cpus() const { return cpus_; }

  /// A communicator over all ranks. kCpu: MPI backend. kCuda: NCCL backend on GPU `local_rank` (UserError when there is
  /// no such GPU or the build has no CUDA). patience: how long a collective may make no progress.
  std::unique_ptr<Communicator> make_communicator(DeviceKind device, const Patience& patience);

  /// From here to the end the ranks watch one another. deadline_seconds: of collectives, and for a rank to show that it
  /// lives; file_seconds: of collectives while some rank waits for a file. Collective, once.
  void watch_ranks(double deadline_seconds, double file_seconds);
  /// For the communicators that work is done with, after watch_ranks().
  const Patience& patience() const;

  /// Logs rank, host and reason, once for the job and with what the other ranks were doing, and takes every rank down
  /// (MPI_Abort). Does not return.
  [[noreturn]] void abort(int exit_code, const std::string& reason, Fault fault);

 private:
  int rank_ = 0, world_size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::string host_;
  CpuPlacement cpus_;
  std::unique_ptr<JobWatch> watch_;  // null with one rank
  std::optional<Patience> patience_;
};

}  // namespace vixen
