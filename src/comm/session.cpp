// The life of a job: MPI from start to end.
#include "comm/session.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <exception>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/activity.hpp"
#include "base/check.hpp"
#include "base/log.hpp"
#include "comm/job_report.hpp"
#include "comm/launcher.hpp"
#include "comm/mpi_c.hpp"
#include "comm/mpi_check.hpp"
#include "comm/mpi_communicator.hpp"
#include "comm/nccl_communicator.hpp"
#include "device/control_groups.hpp"
#include "device/cpu_affinity.hpp"
#include "device/device.hpp"
#include "device/gpu_facts.hpp"

namespace vixen {

namespace {
std::atomic<bool> g_session_exists{false};

/// The last line of a job, and the end of all its ranks.
[[noreturn]] void end_process(int exit_code, const std::string& line) {
  spdlog::error("{}", line);
  spdlog::default_logger()->flush();
  // MPI_Abort talks to a launcher that a failing network may have cut off.
  std::thread([exit_code] {
    std::this_thread::sleep_for(std::chrono::seconds(4));
    std::_Exit(exit_code);
  }).detach();
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

/// Vectors of any lengths from every rank of a communicator, in its order. Collective.
std::vector<std::vector<int>> gather_numbers(MPI_Comm comm, const std::vector<int>& own) {
  int size = 1;
  VIXEN_MPI(MPI_Comm_size(comm, &size));
  const auto ranks = static_cast<size_t>(size);
  const int count = static_cast<int>(own.size());
  std::vector<int> counts(ranks), starts(ranks, 0);
  VIXEN_MPI(MPI_Allgather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, comm));
  for (size_t r = 1; r < ranks; ++r) starts[r] = starts[r - 1] + counts[r - 1];
  std::vector<int> all(static_cast<size_t>(starts.back() + counts.back()));
  VIXEN_MPI(MPI_Allgatherv(own.data(), count, MPI_INT, all.data(), counts.data(), starts.data(), MPI_INT, comm));
  std::vector<std::vector<int>> result;
  for (size_t r = 0; r < ranks; ++r) result.emplace_back(all.begin() + starts[r], all.begin() + starts[r] + counts[r]);
  return result;
}

}  // namespace

MpiSession::MpiSession(int* argc, char*** argv, bool gpus) {
  VIXEN_CHECK(!g_session_exists.exchange(true), "a second MpiSession in one process");
  const CpuGrant grant = granted_cpus();
  const int launched = launched_processes(process_environment);
  const bool alone = !has_launcher(process_environment);
  const auto refuse = [&] {
    // Each process would do the whole job by itself, over the others' files.
    fail_user("the launcher started {} processes, but MPI sees one: start them with mpirun, or srun --mpi=pmix",
              launched);
  };
  if (alone && launched > 1) refuse();
  std::optional<SingletonEnvironment> singleton;
  if (alone) singleton.emplace();
  // Where `ulimit -f` stops Open MPI's shared memory, ranks may wait for one another for ever: better that the signal
  // ends this process, and mpirun the rest.
  const auto on_file_limit = alone ? nullptr : std::signal(SIGXFSZ, SIG_DFL);
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS)
    throw CommError("MPI_Init_thread failed");
  if (!alone) std::signal(SIGXFSZ, on_file_limit);
  singleton.reset();
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (provided < MPI_THREAD_SERIALIZED) throw CommError("this MPI library does not support MPI_THREAD_SERIALIZED");
  VIXEN_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &rank_));
  VIXEN_MPI(MPI_Comm_size(MPI_COMM_WORLD, &world_size_));
  if (world_size_ == 1 && launched > 1) {
    MPI_Finalize();
    refuse();
  }
  char name[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0;
  VIXEN_MPI(MPI_Get_processor_name(name, &length));
  host_.assign(name, static_cast<size_t>(length));
  MPI_Comm node = MPI_COMM_NULL;
  VIXEN_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node));
  VIXEN_MPI(MPI_Comm_rank(node, &local_rank_));
  VIXEN_MPI(MPI_Comm_size(node, &local_size_));

  // Only the host of mpirun sees all of its options.
  int wish = grant.wish.empty() ? 0 : 1;
  VIXEN_MPI(MPI_Allreduce(MPI_IN_PLACE, &wish, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD));
  const auto slurm = slurm_limits();
  const int quota = cpu_quota(own_groups_text());
  RankCpus own{rank_, grant.cpus, gpus ? gpu_numa_node(gpu_of_rank(local_rank_, gpu_count())) : -1,
               quota, slurm.task, wish != 0};
  if (slurm.node > 0) own.node_limit = quota > 0 ? std::min(quota, slurm.node) : slurm.node;
  std::vector<RankCpus> ranks;
  for (const auto& numbers : gather_numbers(node, to_numbers(own))) ranks.push_back(from_numbers(numbers));
  VIXEN_MPI(MPI_Comm_free(&node));
  std::string remark = grant.remark;
  if (wish != 0) remark = "as bound by " + (grant.wish.empty() ? "an option of mpirun" : grant.wish);
  cpus_ = CpuPlacement(std::move(ranks), local_rank_, remark);
  if (const auto confinement = cpus_.confinement(); !confinement.empty() && !confine_to(confinement))
    spdlog::warn("the kernel refuses to confine this process to CPUs {}: it stays on {}", cpu_list_text(confinement),
                 cpu_list_text(allowed_cpus(0)));
}

namespace {

// NCCL serves one rank a GPU; what it says of two is hard to read.
void check_own_gpus(Communicator& host, int gpu) {
  const auto all = host.all_gather_host(gpu_identity(gpu));
  std::map<std::string, size_t> rank_of;
  for (size_t rank = 0; rank < all.size(); ++rank)
    if (const auto [other, first] = rank_of.emplace(all[rank], rank); !first && !all[rank].empty())
      fail_user(
          "device = cuda: ranks {} and {} have the same GPU; expected one a rank: start fewer ranks a node, or give "
          "each its own (--gpus-per-task=1)",
          other->second, rank);
}

}  // namespace

MpiSession::~MpiSession() {
  // MPI_Finalize waits for all ranks: while an exception unwinds, the others are not on their way here.
  if (std::uncaught_exceptions() > 0 && world_size_ > 1) abort(1, "an exception left the program", Fault::kOwn);
  watch_.reset();
  if (MPI_Finalize() != MPI_SUCCESS) spdlog::error("rank {} on {}: MPI_Finalize failed", rank_, host_);
}

std::unique_ptr<Communicator> MpiSession::make_communicator(DeviceKind device, const Patience& patience) {
  if (device == DeviceKind::kCpu) return make_mpi_communicator(patience);
  auto host = make_mpi_communicator(patience);
  const int gpu = gpu_of_rank(local_rank_, gpu_count());
  check_own_gpus(*host, gpu);
  return make_nccl_communicator(std::move(host), gpu, patience);
}

void MpiSession::watch_ranks(double deadline_seconds, double file_seconds) {
  VIXEN_CHECK(!patience_, "the ranks are watched already");
  if (world_size_ > 1) watch_ = std::make_unique<JobWatch>(host_, deadline_seconds, end_process);
  patience_.emplace(deadline_seconds, file_seconds, watch_ ? &watch_->file_waits() : nullptr);
}

const Patience& MpiSession::patience() const {
  VIXEN_CHECK(patience_, "the ranks are not watched yet");
  return *patience_;
}

void MpiSession::abort(int exit_code, const std::string& reason, Fault fault) {
  const std::string self = process_name() + ": ";  // said once
  const std::string own = reason.starts_with(self) ? reason.substr(self.size()) : reason;
  if (watch_) watch_->end_job(exit_code, own, fault);
  const Standing standing{host_, current_activity()};
  std::vector<Standing> ranks(static_cast<size_t>(world_size_), standing);
  end_process(exit_code, failure_text(ranks, rank_, own, exit_code, 0, /*meanwhile=*/false));
}

}  // namespace vixen
