// The life of a job: MPI from start to end.
#include "comm/session.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>

#include "base/check.hpp"
#include "base/log.hpp"
#include "comm/mpi_c.hpp"
#include "comm/mpi_check.hpp"
#include "comm/mpi_communicator.hpp"
#ifdef VIXEN_CUDA
#include "comm/nccl_communicator.hpp"
#endif

namespace vixen {

namespace {
std::atomic<bool> g_session_exists{false};

bool has_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"}) {
    if (std::getenv(name)) return true;
  }
  return false;
}

// How many processes the launcher says it started; 1 if none says so.
int launched_processes() {
  int most = 1;
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (const char* value = std::getenv(name)) most = std::max(most, std::atoi(value));
  }
  return most;
}

}  // namespace

MpiSession::MpiSession(int* argc, char*** argv) {
  VIXEN_CHECK(!g_session_exists.exchange(true), "a second MpiSession in one process");
  if (!has_launcher()) {
    // Open MPI would start a daemon beside us, only to be able to spawn processes, which we never do.
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    // All such processes of a user would share one session folder, and the end of one removes it under the start of
    // another. It holds nothing for a process that is alone.
    setenv("OMPI_MCA_orte_create_session_dirs", "0", 0);
  }
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS)
    throw CommError("MPI_Init_thread failed");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (provided < MPI_THREAD_SERIALIZED) throw CommError("this MPI library does not support MPI_THREAD_SERIALIZED");
  VIXEN_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &rank_));
  VIXEN_MPI(MPI_Comm_size(MPI_COMM_WORLD, &world_size_));
  if (const int launched = launched_processes(); world_size_ == 1 && launched > 1) {
    // Each process would do the whole job by itself, over the others' files.
    MPI_Finalize();
    fail_user("the launcher started {} processes, but MPI sees one: start them with mpirun, or srun --mpi=pmix",
              launched);
  }
  char name[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0;
  VIXEN_MPI(MPI_Get_processor_name(name, &length));
  host_.assign(name, static_cast<size_t>(length));
  MPI_Comm node = MPI_COMM_NULL;
  VIXEN_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node));
  VIXEN_MPI(MPI_Comm_rank(node, &local_rank_));
  VIXEN_MPI(MPI_Comm_size(node, &local_size_));
  VIXEN_MPI(MPI_Comm_free(&node));
}

MpiSession::~MpiSession() {
  // MPI_Finalize waits for all ranks: while an exception unwinds, the others are not on their way here.
  if (std::uncaught_exceptions() > 0 && world_size_ > 1) abort(1, "an exception left the program");
  if (MPI_Finalize() != MPI_SUCCESS) spdlog::error("rank {} on {}: MPI_Finalize failed", rank_, host_);
}

std::unique_ptr<Communicator> MpiSession::make_communicator(const std::string& device, double deadline_seconds) {
  if (device == "cpu") return make_mpi_communicator(deadline_seconds);
  if (device != "cuda") fail_user("device = {}: expected cpu or cuda", device);
#ifdef VIXEN_CUDA
  return make_nccl_communicator(make_mpi_communicator(deadline_seconds), local_rank_, deadline_seconds);
#else
  fail_user("device = cuda: this build has no CUDA; configure with -DVIXEN_CUDA=ON or use device = cpu");
#endif
}

void MpiSession::abort(int exit_code, const std::string& reason) {
  spdlog::error("rank {} on {}: {}; ending the job ({} rank{}, exit code {})", rank_, host_, reason, world_size_,
                world_size_ == 1 ? "" : "s", exit_code);
  spdlog::default_logger()->flush();
  // MPI_Abort talks to a launcher that a failing network may have cut off.
  std::thread([exit_code] {
    std::this_thread::sleep_for(std::chrono::seconds(4));
    std::_Exit(exit_code);
  }).detach();
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace vixen
