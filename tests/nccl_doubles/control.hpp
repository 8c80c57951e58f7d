// What was asked of the double of NCCL (faults.hpp), as it asks for it.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include "nccl_doubles/faults.hpp"

namespace vixen::doubles {

class Control {
 public:
  Control();

  /// ncclSuccess unless this call was to fail. Once.
  ncclResult_t fault_of(const std::string& call);
  void set_fault(const std::string& call, ncclResult_t code);

  bool stalls_bootstrap() const { return stalls_bootstrap_; }
  void set_stalls_bootstrap(bool stalls) { stalls_bootstrap_ = stalls; }
  bool notices_lost_peers() const { return notices_lost_peers_; }
  void set_notices_lost_peers(bool notices) { notices_lost_peers_ = notices; }

  /// Whether VIXEN_DOUBLE_DIES takes this rank down here, and by which signal.
  bool dies(int rank, const std::string& where) const;
  int signal() const { return signal_; }

  std::atomic<int> made = 0, aborted = 0, finalized = 0, destroyed = 0, groups = 0, grouped_calls = 0;

 private:
  std::mutex mutex_;
  std::map<std::string, ncclResult_t> faults_;
  std::atomic<bool> stalls_bootstrap_ = false, notices_lost_peers_ = true;
  std::string dies_;  // "RANK:WHERE"
  int signal_ = 0;
};

Control& control();

}  // namespace vixen::doubles
