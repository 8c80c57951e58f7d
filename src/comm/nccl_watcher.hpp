// A NCCL communicator under supervision: checked calls, and a thread that notices collectives that fail or hang after
// they were enqueued. For files of this folder only.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/activity.hpp"
#include "comm/patience.hpp"

namespace vixen {

/// Throws CommError naming the call when a CUDA runtime call failed.
void cuda_check(cudaError_t code, const char* call);

/// Owns the ncclComm_t (non-blocking) of this rank. Calls that return ncclInProgress are polled until the deadline.
/// What was enqueued is watched by events: when none completes for as long as patience allows, or NCCL reports an
/// error, the communicator is aborted, which frees a host that waits for the GPU, and the next call throws CommError.
/// Should the main thread make none within ten seconds more, or before it drops the watcher, this terminates the job.
class NcclWatcher {
 public:
  /// Collective over the ranks that hold `id`. who: "rank 1 of 4 on node7".
  NcclWatcher(const ncclUniqueId& id, int rank, int world_size, int gpu, const Patience& patience, std::string who);
  ~NcclWatcher();
  NcclWatcher(const NcclWatcher&) = delete;
  NcclWatcher& operator=(const NcclWatcher&) = delete;

  /// Runs `call` (NCCL calls on `stream`, made into one group) and returns once it is enqueued. name: for messages.
  void enqueue(const std::string& name, cudaStream_t stream, const std::function<void(ncclComm_t)>& call);

  /// Throws CommError if a collective has failed since.
  void check_failed();

 private:
  struct Pending {
    std::string name;
    cudaEvent_t event;
  };
  using Clock = std::chrono::steady_clock;

  void settle(const char* what);  // polls while NCCL says "in progress"; under mutex_
  void throw_if_failed();         // under mutex_
  void watch();
  void fail(const std::string& reason);  // under mutex_
  [[noreturn]] void end_job() const;
  cudaEvent_t take_event();  // under mutex_

  ncclComm_t comm_ = nullptr;
  int gpu_;
  Patience patience_;
  std::string who_;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  bool noticed_ = false;  // the main thread has seen failure_
  std::string failure_;
  Clock::time_point failed_at_, last_progress_;
  std::deque<Pending> pending_;
  std::vector<cudaEvent_t> free_events_;
  int64_t collectives_ = 0;
  std::optional<InCollective> noted_;  // while one takes long
  std::thread thread_;
};

/// Throws CommError naming the call unless the result is success or "in progress" (which enqueue() waits out).
void nccl_check(ncclResult_t code, const char* call);

}  // namespace vixen
