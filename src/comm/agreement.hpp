// What any rank wants of all, agreed upon behind the steps: no rank waits for the word of another.
#pragma once

#include <cstdint>
#include <memory>

#include "comm/communicator.hpp"

namespace vixen {

class Agreement {
 public:
  /// `comm` outlives the object.
  explicit Agreement(Communicator& comm) : comm_(&comm) {}

  /// Gives this rank's word (the larger, the stronger) after a step; returns the strongest of all ranks' words of the
  /// step before, which the hosts have exchanged meanwhile, 0 after the first. A rank repeats a word until it is
  /// returned. Collective.
  int64_t exchange(int64_t word) {
    const int64_t agreed = settle();
    pending_ = comm_->max_host_async(word);
    return agreed;
  }

  /// The strongest word that is on its way, 0 where none is. Collective.
  int64_t settle() {
    if (!pending_) return 0;
    const int64_t agreed = pending_->get();
    pending_.reset();
    return agreed;
  }

 private:
  Communicator* comm_;
  std::unique_ptr<HostValue> pending_;
};

}  // namespace vixen
