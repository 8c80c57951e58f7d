#include "pretend/ledger.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

namespace vixen::pretend {
namespace {

thread_local int steps_of_thread = 0;

std::vector<Fault>& faults() {
  static auto* all = new std::vector<Fault>;  // outlives the tensors of other static objects
  return *all;
}

// "vixen::TrainStep::update" of a frame in vixen's code; empty for any other.
std::string function_at(void* address) {
  Dl_info info;
  if (::dladdr(address, &info) == 0 || info.dli_sname == nullptr) return {};
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> whole(abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status),
                                                     std::free);
  if (status != 0) return {};
  std::string name = whole.get();
  if (name.find("vixen::") == name.npos || name.find("vixen::pretend") != name.npos) return {};
  name.resize(std::min(name.find('('), name.size()));
  const size_t from = name.rfind(' ');
  return from == name.npos ? name : name.substr(from + 1);
}

std::string trace() {
  constexpr size_t kMost = 6;
  std::array<void*, 64> frames = {};
  const int count = ::backtrace(frames.data(), static_cast<int>(frames.size()));
  std::vector<std::string> names;
  for (int i = 0; i < count && names.size() < kMost; ++i) {
    auto name = function_at(frames.at(static_cast<size_t>(i)));
    if (!name.empty() && (names.empty() || names.back() != name)) names.push_back(std::move(name));
  }
  return fmt::format("{}", fmt::join(names, " < "));
}

const char* name_of(FaultKind kind) {
  switch (kind) {
    case FaultKind::kWait:
      return "the host waits in a step";
    case FaultKind::kPageableCopy:
      return "a copy of pageable memory in a step";
    case FaultKind::kUnordered:
      return "no order between streams";
    case FaultKind::kFreed:
      return "memory freed in use";
    case FaultKind::kRewritten:
      return "pinned memory changed in use";
  }
  return "";
}

}  // namespace

std::recursive_mutex& device_lock() {
  static auto* lock = new std::recursive_mutex;
  return *lock;
}

Counts& ledger() {
  static Counts all;
  return all;
}

void add_fault(FaultKind kind, std::string what) {
  const std::lock_guard lock(device_lock());
  faults().push_back({kind, std::move(what), trace()});
}

void add_fault_in_step(FaultKind kind, const std::string& what) {
  if (steps_of_thread > 0) add_fault(kind, what);
}

Counts counts() {
  const std::lock_guard lock(device_lock());
  return ledger();
}

std::vector<Fault> take_faults() {
  const std::lock_guard lock(device_lock());
  return std::exchange(faults(), {});
}

std::string text_of(const std::vector<Fault>& faults) {
  std::string text;
  for (const Fault& fault : faults)
    text += fmt::format("{}: {} (in {})\n", name_of(fault.kind), fault.what, fault.trace);
  return text;
}

InStep::InStep() {
  ++steps_of_thread;
}

InStep::~InStep() {
  --steps_of_thread;
}

}  // namespace vixen::pretend
