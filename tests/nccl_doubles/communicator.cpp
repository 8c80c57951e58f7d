#include "nccl_doubles/communicator.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "nccl_doubles/control.hpp"
#include "nccl_doubles/streams.hpp"
#include "nccl_doubles/sums.hpp"

namespace vixen::doubles {
namespace {

constexpr size_t kPieceElements = size_t{1} << 18;  // of a sum

struct Header {
  uint64_t kind = 0, out_bytes = 0, in_bytes = 0;
};

}  // namespace

Rank::Rank(const std::string& name, int rank, int world_size)
    : rank_(rank), world_size_(world_size), wire_(name, rank, world_size) {
  cudaGetDevice(&gpu_);
}

Rank::~Rank() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
}

void Rank::begin() {
  later([this] {
    if (control().stalls_bootstrap()) return wire_.wait_for_cut();
    const auto met = [this](int count) {
      if (count == 1 && control().dies(rank_, "bootstrap")) die("in the bootstrap");
    };
    if (!wire_.connect(met)) return;
    agree(Kind::kBootstrap, with_all_others());
  });
  thread_ = std::thread([this] { work(); });
}

void Rank::launch(std::vector<Call> calls) {
  later([this, calls = std::move(calls)]() mutable {
    uint64_t number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = launched_++;
    }
    const cudaStream_t stream = calls.front().stream;
    enqueue(stream, [self = shared_from_this(), number, calls = std::move(calls)] { self->carry_out(number, calls); });
  });
}

void Rank::finalize() {
  later([this] {
    {
      std::unique_lock lock(mutex_);
      while (turn_ < launched_ && !wire_.is_cut()) wake_.wait_for(lock, std::chrono::milliseconds(5));
    }
    if (!wire_.is_cut()) agree(Kind::kFinalize, with_all_others());
  });
}

void Rank::abort() {
  wire_.cut();
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  const std::lock_guard lock(at_work_);
  wire_.close();
}

ncclResult_t Rank::state() {
  const std::lock_guard lock(mutex_);
  if (error_ != ncclSuccess) return error_;
  return unfinished_ > 0 ? ncclInProgress : ncclSuccess;
}

void Rank::fail(ncclResult_t code, const std::string& text) {
  const std::lock_guard lock(mutex_);
  if (error_ != ncclSuccess) return;  // the first one stays
  error_ = code;
  text_ = text;
}

std::string Rank::last_error() {
  const std::lock_guard lock(mutex_);
  return text_;
}

void Rank::later(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    ++unfinished_;
  }
  wake_.notify_all();
}

void Rank::work() {
  cudaSetDevice(gpu_);  // whose default stream is meant
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
    if (stop_) return;
    const auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
    --unfinished_;
  }
}

void Rank::carry_out(uint64_t number, const std::vector<Call>& calls) {
  {
    // Groups on several streams are carried out in the order of their launches.
    std::unique_lock lock(mutex_);
    while (turn_ != number && !wire_.is_cut()) wake_.wait_for(lock, std::chrono::milliseconds(5));
  }
  {
    const std::lock_guard lock(at_work_);
    for (auto call = calls.begin(); call != calls.end() && !wire_.is_cut();) {
      if (call->kind != Kind::kPointToPoint) {
        run(*call++);
        continue;
      }
      const auto end = std::find_if(call, calls.end(), [](const Call& of) { return of.kind != Kind::kPointToPoint; });
      run_messages({call, end});
      call = end;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    ++turn_;
  }
  wake_.notify_all();
}

bool Rank::run(const Call& call) {
  const size_t bytes = call.elements * bytes_of(call.type);
  std::vector<Parcel> parcels;
  switch (call.kind) {
    case Kind::kAllGather:
      for (int peer = 0; peer < world_size_; ++peer) {
        char* const place = call.receive + static_cast<size_t>(peer) * bytes;
        if (peer != rank_)
          parcels.push_back({peer, call.send, bytes, place, bytes});
        else if (place != call.send)
          std::memmove(place, call.send, bytes);
      }
      return agree(call.kind, parcels) && move(parcels);
    case Kind::kBroadcast:
      if (rank_ == call.peer) {
        for (int peer = 0; peer < world_size_; ++peer)
          if (peer != rank_) parcels.push_back({peer, call.send, bytes, nullptr, 0});
        if (call.receive != call.send) std::memmove(call.receive, call.send, bytes);
      } else {
        parcels.push_back({call.peer, nullptr, 0, call.receive, bytes});
      }
      return agree(call.kind, parcels) && move(parcels);
    case Kind::kAllReduce:
    case Kind::kReduceScatter: {
      std::vector<int> all(static_cast<size_t>(world_size_));
      for (int peer = 0; peer < world_size_; ++peer) all[static_cast<size_t>(peer)] = peer;
      return reduce(call, call.elements, all, call.kind == Kind::kReduceScatter);
    }
    case Kind::kReduce:
      return reduce(call, call.elements, {call.peer}, false);
    default:
      return false;
  }
}

bool Rank::run_messages(const std::vector<Call>& calls) {
  std::vector<Parcel> parcels;
  Parcel own;
  for (const Call& call : calls) {
    auto found = std::find_if(parcels.begin(), parcels.end(), [&](const Parcel& of) { return of.peer == call.peer; });
    if (call.peer != rank_ && found == parcels.end()) found = parcels.insert(parcels.end(), Parcel{.peer = call.peer});
    Parcel& parcel = call.peer == rank_ ? own : *found;
    const size_t bytes = call.elements * bytes_of(call.type);
    if (call.send != nullptr) {
      parcel.out = call.send;
      parcel.out_bytes = bytes;
    } else {
      parcel.in = call.receive;
      parcel.in_bytes = bytes;
    }
  }
  if (own.out_bytes != own.in_bytes) {
    std::fprintf(stderr, "double of NCCL: rank %d sends itself %zu bytes and receives %zu\n", rank_, own.out_bytes,
                 own.in_bytes);
    wire_.wait_for_cut();
    return false;
  }
  if (own.out_bytes > 0) std::memmove(own.in, own.out, own.out_bytes);
  return agree(Kind::kPointToPoint, parcels) && move(parcels);
}

// Every rank's values go to the targets, of which each adds them up: all of them (elements), or with `scatter` its own
// part of the W * elements.
bool Rank::reduce(const Call& call, size_t elements, const std::vector<int>& targets, bool scatter) {
  const size_t width = bytes_of(call.type);
  const bool is_target = std::find(targets.begin(), targets.end(), rank_) != targets.end();
  const auto source_for = [&](int target) {
    return call.send + (scatter ? static_cast<size_t>(target) * elements * width : 0);
  };
  std::vector<std::vector<char>> arrived(static_cast<size_t>(world_size_));
  for (size_t begin = 0; begin < elements; begin += kPieceElements) {
    const size_t piece = std::min(kPieceElements, elements - begin), bytes = piece * width;
    std::vector<Parcel> parcels;
    std::vector<const char*> sources;
    for (int peer = 0; peer < world_size_; ++peer) {
      auto& place = arrived[static_cast<size_t>(peer)];
      place.resize(is_target && peer != rank_ ? bytes : 0);
      sources.push_back(peer == rank_ ? source_for(rank_) + begin * width : place.data());
      if (peer == rank_) continue;
      Parcel parcel{.peer = peer, .in = place.data(), .in_bytes = place.size()};
      if (std::find(targets.begin(), targets.end(), peer) != targets.end()) {
        parcel.out = source_for(peer) + begin * width;
        parcel.out_bytes = bytes;
      }
      if (parcel.in_bytes + parcel.out_bytes > 0) parcels.push_back(parcel);
    }
    if (!(agree(call.kind, parcels) && move(parcels))) return false;
    if (is_target) add_in_order(call.type, sources, call.receive + begin * width, piece);
  }
  return true;
}

bool Rank::agree(Kind kind, const std::vector<Parcel>& parcels) {
  std::vector<Header> own(parcels.size()), theirs(parcels.size());
  std::vector<Parcel> headers;
  for (size_t i = 0; i < parcels.size(); ++i) {
    own[i] = {static_cast<uint64_t>(kind), parcels[i].out_bytes, parcels[i].in_bytes};
    headers.push_back({parcels[i].peer, reinterpret_cast<const char*>(&own[i]), sizeof(Header),
                       reinterpret_cast<char*>(&theirs[i]), sizeof(Header)});
  }
  if (!move(headers)) return false;
  for (size_t i = 0; i < parcels.size(); ++i) {
    if (theirs[i].kind == own[i].kind && theirs[i].out_bytes == own[i].in_bytes &&
        theirs[i].in_bytes == own[i].out_bytes)
      continue;
    // NCCL would hang, or worse.
    std::fprintf(
        stderr, "double of NCCL: rank %d is in call %d (%zu bytes out, %zu in), rank %d in call %d (%zu out, %zu in)\n",
        rank_, static_cast<int>(own[i].kind), own[i].out_bytes, own[i].in_bytes, parcels[i].peer,
        static_cast<int>(theirs[i].kind), theirs[i].out_bytes, theirs[i].in_bytes);
    wire_.wait_for_cut();
    return false;
  }
  if (kind != Kind::kBootstrap && kind != Kind::kFinalize) die_if_asked(parcels);
  return true;
}

bool Rank::move(const std::vector<Parcel>& parcels) {
  return wire_.exchange(parcels, [this](int peer) {
    if (control().notices_lost_peers())
      fail(ncclRemoteError, "the connection to rank " + std::to_string(peer) + " was closed");
  });
}

void Rank::die_if_asked(const std::vector<Parcel>& parcels) {
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = turn_ + 1;
  }
  if (!control().dies(rank_, std::to_string(number))) return;
  std::vector<Parcel> halves = parcels;
  for (Parcel& half : halves) {
    half.out_bytes /= 2;
    half.in_bytes = 0;
  }
  move(halves);
  die(("in group " + std::to_string(number)).c_str());
}

void Rank::die(const char* where) const {
  std::fprintf(stderr, "rank %d: dies %s\n", rank_, where);
  ::raise(control().signal());
}

std::vector<Parcel> Rank::with_all_others() const {
  std::vector<Parcel> parcels;
  for (int peer = 0; peer < world_size_; ++peer)
    if (peer != rank_) parcels.push_back({.peer = peer});
  return parcels;
}

}  // namespace vixen::doubles
