// Waiting for MPI requests with a deadline.
#include "comm/mpi_transfer.hpp"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "base/activity.hpp"
#include "base/lap.hpp"
#include "base/log.hpp"
#include "comm/mpi_check.hpp"

namespace vixen {

MpiTransfer::MpiTransfer(MPI_Comm comm, std::string name, const Patience& patience)
    : comm_(comm), name_(std::move(name)), patience_(patience) {}

MpiTransfer::~MpiTransfer() {
  if (open_ == 0) return;
  // The job is about to end, for a reason that is on its way to the user, or a handle was dropped without wait(). MPI
  // may yet write into the buffers, so they must outlive us.
  const auto level = std::uncaught_exceptions() > 0 ? spdlog::level::debug : spdlog::level::err;
  spdlog::log(level, "{}: {} left with {} requests in flight", process_name(), name_, open_);
  new (std::nothrow) std::vector<std::shared_ptr<void>>(std::move(kept_));
}

void MpiTransfer::send(const void* data, size_t bytes, int to, int tag) {
  for (size_t begin = 0; begin < bytes; begin += kPieceBytes) {
    const int count = static_cast<int>(std::min(kPieceBytes, bytes - begin));
    MPI_Request request;
    VIXEN_MPI(MPI_Isend(static_cast<const char*>(data) + begin, count, MPI_BYTE, to, tag, comm_, &request));
    requests_.push_back(request);
    peers_.push_back({to, false, count});
    ++open_;
  }
}

void MpiTransfer::receive(void* data, size_t bytes, int from, int tag) {
  for (size_t begin = 0; begin < bytes; begin += kPieceBytes) {
    const int count = static_cast<int>(std::min(kPieceBytes, bytes - begin));
    MPI_Request request;
    VIXEN_MPI(MPI_Irecv(static_cast<char*>(data) + begin, count, MPI_BYTE, from, tag, comm_, &request));
    requests_.push_back(request);
    peers_.push_back({from, true, count});
    ++open_;
  }
}

void MpiTransfer::add(MPI_Request request) {
  requests_.push_back(request);
  peers_.push_back({});
  ++open_;
}

bool MpiTransfer::test() {
  done_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int count = 0;
  const int code = [&] {
    const std::lock_guard lock(mpi_mutex());
    return MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, done_.data(), statuses_.data());
  }();
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) VIXEN_MPI(code);
  if (count == MPI_UNDEFINED) {
    open_ = 0;
    return true;
  }
  open_ -= static_cast<size_t>(count);
  for (int i = 0; i < count; ++i) {
    const Peer& peer = peers_[static_cast<size_t>(done_[static_cast<size_t>(i)])];
    const MPI_Status& status = statuses_[static_cast<size_t>(i)];
    if (code == MPI_ERR_IN_STATUS && status.MPI_ERROR != MPI_SUCCESS && status.MPI_ERROR != MPI_ERR_PENDING) {
      char text[MPI_MAX_ERROR_STRING] = "unknown error";
      int length = 0;
      MPI_Error_string(status.MPI_ERROR, text, &length);
      throw CommError(fmt::format("{}: {}: {} rank {} failed: {}", process_name(), name_,
                                  peer.receive ? "receiving from" : "sending to", peer.rank, text));
    }
    if (!peer.receive) continue;
    int bytes = 0;
    VIXEN_MPI(MPI_Get_count(&status, MPI_BYTE, &bytes));
    if (bytes != peer.bytes) {
      throw CommError(
          fmt::format("{}: {}: rank {} sent {} bytes where {} were expected: the ranks disagree about this "
                      "collective or its shapes",
                      process_name(), name_, peer.rank, bytes, peer.bytes));
    }
  }
  return count > 0;
}

std::string MpiTransfer::missing() const {
  std::set<int> ranks;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL && peers_[i].rank >= 0) ranks.insert(peers_[i].rank);
  }
  if (ranks.empty()) return "the other ranks";
  return fmt::format("rank{} {}", ranks.size() > 1 ? "s" : "", fmt::join(ranks, ", "));
}

void MpiTransfer::wait() {
  constexpr double kPause = 1;  // seconds between two looks: only a process that was stopped takes so long
  const Lap all;
  Lap idle, look;
  std::optional<InCollective> noted;
  int spins = 0;
  while (open_ > 0) {
    if (test()) {
      idle = Lap{};
      continue;
    }
    if (++spins % 16 != 0) {
      sched_yield();
      continue;
    }
    if (look.next() > kPause) idle = Lap{};
    const double waited = idle.total();
    if (waited > 0.05 && !noted) noted.emplace(name_);
    if (waited > patience_.limit()) {
      throw CommError(
          fmt::format("{}: {}: no progress for {:.1f} s, waiting for {} (dead, stuck, or in another collective)",
                      process_name(), name_, waited, missing()));
    }
    // Ranks may outnumber cores: after a millisecond whoever still computes needs the core more than we do.
    if (all.total() > 1e-3) std::this_thread::sleep_for(std::chrono::microseconds(waited > 0.1 ? 500 : 50));
  }
  requests_.clear();
  peers_.clear();
  kept_.clear();
}

}  // namespace vixen
