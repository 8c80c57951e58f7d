// Supervision of a NCCL communicator.
#include "comm/nccl_watcher.hpp"

#include <cstdlib>
#include <exception>
#include <string_view>
#include <utility>

#include "base/log.hpp"
#include "comm/communicator.hpp"
#include "comm/mpi_c.hpp"

namespace vixen {

namespace {
constexpr auto kPollEvery = std::chrono::milliseconds(20);
constexpr auto kGrace = std::chrono::seconds(10);

std::string_view function_name(const char* call) {
  const std::string_view whole(call);
  return whole.substr(0, whole.find('('));
}
}  // namespace

void cuda_check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw CommError(fmt::format("{} failed: {}", function_name(call), cudaGetErrorString(code)));
}

void nccl_check(ncclResult_t code, const char* call) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  throw CommError(
      fmt::format("{} failed: {} ({})", function_name(call), ncclGetErrorString(code), ncclGetLastError(nullptr)));
}

#define VIXEN_CUDA_CALL(call) cuda_check((call), #call)
#define VIXEN_NCCL_CALL(call) nccl_check((call), #call)

NcclWatcher::NcclWatcher(const ncclUniqueId& id, int rank, int world_size, int gpu, const Patience& patience,
                         std::string who)
    : gpu_(gpu), patience_(patience), who_(std::move(who)), last_progress_(Clock::now()) {
  VIXEN_CUDA_CALL(cudaSetDevice(gpu_));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const std::lock_guard lock(mutex_);
  try {
    nccl_check(ncclCommInitRankConfig(&comm_, world_size, id, rank, &config),
               fmt::format("{}: ncclCommInitRankConfig", who_).c_str());
    settle("ncclCommInitRankConfig");
  } catch (...) {
    if (comm_) ncclCommAbort(comm_);
    throw;
  }
  thread_ = std::thread([this] { watch(); });
}

NcclWatcher::~NcclWatcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
  const std::lock_guard lock(mutex_);
  // What was read of a collective that failed is not its result: a job that nobody told so must not end well.
  if (!failure_.empty() && !noticed_ && std::uncaught_exceptions() == 0) end_job();
  if (comm_) {
    // Finalising waits for all ranks: not while an exception unwinds.
    try {
      if (std::uncaught_exceptions() > 0) {
        ncclCommAbort(comm_);
      } else {
        nccl_check(ncclCommFinalize(comm_), fmt::format("{}: ncclCommFinalize", who_).c_str());
        settle("ncclCommFinalize");
        nccl_check(ncclCommDestroy(comm_), fmt::format("{}: ncclCommDestroy", who_).c_str());
      }
    } catch (const std::exception& error) {
      spdlog::error("{}", error.what());
      ncclCommAbort(comm_);
    }
  }
  for (const Pending& pending : pending_) cudaEventDestroy(pending.event);
  for (const cudaEvent_t event : free_events_) cudaEventDestroy(event);
}

void NcclWatcher::settle(const char* what) {
  const auto start = Clock::now();
  ncclResult_t state = ncclInProgress;
  while (true) {
    const ncclResult_t code = ncclCommGetAsyncError(comm_, &state);
    if (code != ncclSuccess) state = code;
    if (state != ncclInProgress) break;
    const std::chrono::duration<double> waited = Clock::now() - start;
    if (waited.count() > patience_.limit()) {
      noticed_ = true;
      throw CommError(fmt::format("{}: {}: NCCL made no progress for {:.1f} s", who_, what, waited.count()));
    }
    if (waited.count() > 1e-4) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  if (state != ncclSuccess) {
    noticed_ = true;
    throw CommError(
        fmt::format("{}: {} failed: {} ({})", who_, what, ncclGetErrorString(state), ncclGetLastError(comm_)));
  }
}

cudaEvent_t NcclWatcher::take_event() {
  if (!free_events_.empty()) {
    const cudaEvent_t event = free_events_.back();
    free_events_.pop_back();
    return event;
  }
  cudaEvent_t event = nullptr;
  VIXEN_CUDA_CALL(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

void NcclWatcher::enqueue(const std::string& name, cudaStream_t stream, const std::function<void(ncclComm_t)>& call) {
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  const std::string numbered = fmt::format("{} #{}", name, ++collectives_);
  try {
    VIXEN_NCCL_CALL(ncclGroupStart());
    std::exception_ptr failed;
    try {
      call(comm_);
    } catch (...) {
      failed = std::current_exception();  // the group must be closed all the same
    }
    const ncclResult_t end = ncclGroupEnd();
    if (failed) std::rethrow_exception(failed);
    nccl_check(end, "ncclGroupEnd");
  } catch (const CommError& error) {
    throw CommError(fmt::format("{}: {}: {}", who_, numbered, error.what()));
  }
  settle(numbered.c_str());
  const cudaEvent_t event = take_event();
  if (pending_.empty()) last_progress_ = Clock::now();
  pending_.push_back({numbered, event});
  VIXEN_CUDA_CALL(cudaEventRecord(event, stream));
}

void NcclWatcher::check_failed() {
  const std::lock_guard lock(mutex_);
  throw_if_failed();
}

void NcclWatcher::throw_if_failed() {
  if (failure_.empty()) return;
  noticed_ = true;
  throw CommError(failure_);
}

void NcclWatcher::fail(const std::string& reason) {
  failure_ = fmt::format("{}: {}", who_, reason);
  failed_at_ = Clock::now();
  spdlog::error("{}", failure_);
  ncclCommAbort(comm_);
  comm_ = nullptr;
}

void NcclWatcher::end_job() const {
  spdlog::error("{}: the program did not end by itself; ending the job", who_);
  spdlog::default_logger()->flush();
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::_Exit(1);
}

void NcclWatcher::watch() {
  cudaSetDevice(gpu_);
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kPollEvery, [this] { return stop_; })) {
    if (!failure_.empty()) {
      if (noticed_ || Clock::now() - failed_at_ < kGrace) continue;
      end_job();
    }
    // Events of two streams may end in either order.
    for (size_t i = 0; i < pending_.size();) {
      const cudaError_t state = cudaEventQuery(pending_[i].event);
      if (state == cudaErrorNotReady) {
        ++i;
        continue;
      }
      if (state != cudaSuccess) {
        fail(fmt::format("{}: {}", pending_[i].name, cudaGetErrorString(state)));
        break;
      }
      free_events_.push_back(pending_[i].event);
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(i));
      last_progress_ = Clock::now();
      noted_.reset();
    }
    if (!failure_.empty()) continue;
    ncclResult_t state = ncclSuccess;
    const ncclResult_t code = ncclCommGetAsyncError(comm_, &state);
    if (code != ncclSuccess) state = code;
    if (state != ncclSuccess && state != ncclInProgress) {
      fail(fmt::format("{}: {} ({})", pending_.empty() ? "NCCL" : pending_.front().name, ncclGetErrorString(state),
                       ncclGetLastError(comm_)));
    } else if (!pending_.empty()) {
      const std::chrono::duration<double> waited = Clock::now() - last_progress_;
      if (waited.count() > 0.5 && !noted_) noted_.emplace(pending_.front().name);
      if (waited.count() > patience_.limit())
        fail(fmt::format("{}: no progress for {:.1f} s (a rank is dead, stuck, or in another collective)",
                         pending_.front().name, waited.count()));
    }
  }
}

}  // namespace vixen
