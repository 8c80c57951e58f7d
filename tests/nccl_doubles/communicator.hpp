// One rank's communicator of the double of NCCL. Calls are enqueued on streams by a thread of its own, as NCCL does
// when it is told not to block, and carried out on the streams in the order in which they were made.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "nccl_doubles/wire.hpp"

namespace vixen::doubles {

enum class Kind : uint64_t {
  kBootstrap,
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kBroadcast,
  kReduce,
  kPointToPoint,
  kFinalize
};

/// A collective, or half of a message.
struct Call {
  Kind kind;
  const char* send = nullptr;  // null: nothing is sent
  char* receive = nullptr;     // null: nothing is received
  size_t elements = 0;
  ncclDataType_t type = ncclInt8;
  int peer = 0;  // or root
  cudaStream_t stream = nullptr;
};

class Rank : public std::enable_shared_from_this<Rank> {
 public:
  Rank(const std::string& name, int rank, int world_size);
  ~Rank();
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  /// Meets the others, by and by.
  void begin();
  /// Calls of one group, on one stream, are on their way there.
  void launch(std::vector<Call> calls);
  /// Waits for what was launched, then for the others to do so, by and by.
  void finalize();
  /// Ends at once what is under way; nothing of it is used from here on.
  void abort();

  int world_size() const { return world_size_; }
  /// ncclInProgress while something is "by and by"; an error stays.
  ncclResult_t state();
  void fail(ncclResult_t code, const std::string& text);
  std::string last_error();

 private:
  void later(std::function<void()> task);
  void work();
  void carry_out(uint64_t number, const std::vector<Call>& calls);
  bool run(const Call& call);
  bool run_messages(const std::vector<Call>& calls);
  bool reduce(const Call& call, size_t elements, const std::vector<int>& targets, bool scatter);
  // Both sides say what they are about to do; nobody goes on where they disagree.
  bool agree(Kind kind, const std::vector<Parcel>& parcels);
  bool move(const std::vector<Parcel>& parcels);
  void die_if_asked(const std::vector<Parcel>& parcels);
  void die(const char* where) const;
  std::vector<Parcel> with_all_others() const;

  int rank_, world_size_, gpu_ = 0;
  Wire wire_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  int unfinished_ = 0;  // tasks, the one at work included
  bool stop_ = false;
  ncclResult_t error_ = ncclSuccess;
  std::string text_;
  uint64_t launched_ = 0, turn_ = 0;  // groups given to streams, and carried out
  std::mutex at_work_;                // held while a stream's thread uses the wire
  std::thread thread_;
};

}  // namespace vixen::doubles
