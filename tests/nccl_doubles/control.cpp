#include "nccl_doubles/control.hpp"

#include <cstdlib>

namespace vixen::doubles {

Control::Control() {
  if (const char* wish = std::getenv("VIXEN_DOUBLE_DIES")) {
    const std::string text = wish;
    const size_t colon = text.rfind(':');
    dies_ = text.substr(0, colon);
    signal_ = std::atoi(text.c_str() + colon + 1);
  }
  if (const char* wish = std::getenv("VIXEN_DOUBLE_LOST_PEERS")) notices_lost_peers_ = std::string(wish) != "unnoticed";
}

ncclResult_t Control::fault_of(const std::string& call) {
  const std::lock_guard lock(mutex_);
  const auto found = faults_.find(call);
  if (found == faults_.end()) return ncclSuccess;
  const ncclResult_t code = found->second;
  faults_.erase(found);
  return code;
}

void Control::set_fault(const std::string& call, ncclResult_t code) {
  const std::lock_guard lock(mutex_);
  faults_[call] = code;
}

bool Control::dies(int rank, const std::string& where) const {
  return dies_ == std::to_string(rank) + ":" + where;
}

Control& control() {
  static auto* only = new Control;  // for threads that outlive main()
  return *only;
}

void fail_next(const std::string& call, ncclResult_t code) {
  control().set_fault(call, code);
}

void stall_bootstrap(bool stalled) {
  control().set_stalls_bootstrap(stalled);
}

void notice_lost_peers(bool noticed) {
  control().set_notices_lost_peers(noticed);
}

Counts counts() {
  const Control& all = control();
  return {all.made, all.aborted, all.finalized, all.destroyed, all.groups, all.grouped_calls};
}

}  // namespace vixen::doubles
