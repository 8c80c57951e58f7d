#include "device/nvml.hpp"

#include <dlfcn.h>

#include <memory>

namespace vixen {
namespace {

// Of nvml.h (CUDA 13), which toolkits do not always bring.
using NvmlDevice = struct nvmlDevice_st*;
constexpr int kSuccess = 0;
constexpr unsigned kUncorrected = 1, kVolatile = 0;                     // nvmlMemoryErrorType_t, nvmlEccCounterType_t
constexpr unsigned kSmClock = 1;                                        // nvmlClockType_t
constexpr unsigned long long kThermalOrPowerFault = 0x40 | 0x80 | 0x8;  // HW thermal, power brake, HW slowdown

class Nvml {
 public:
  Nvml() : library_(::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    const auto init = find<int()>("nvmlInit_v2");
    if (init == nullptr || init() != kSuccess) close();
  }
  ~Nvml() {
    if (const auto shutdown = find<int()>("nvmlShutdown")) shutdown();
    close();
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  /// Calls a function of the library that returns a status; false where it has none, or it failed.
  template <typename... Args>
  bool call(const char* name, Args... args) const {
    const auto function = find<int(Args...)>(name);
    return function != nullptr && function(args...) == kSuccess;
  }

 private:
  template <typename Function>
  Function* find(const char* name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<Function*>(::dlsym(library_, name));
  }
  void close() {
    if (library_ != nullptr) ::dlclose(library_);
    library_ = nullptr;
  }
  void* library_;
};

}  // namespace

void add_nvml_facts(GpuFacts& facts) {
  const Nvml nvml;
  NvmlDevice device = nullptr;
  if (!nvml.call("nvmlDeviceGetHandleByPciBusId_v2", facts.bus_id.c_str(), &device)) return;
  unsigned now = 0, pending = 0;
  if (nvml.call("nvmlDeviceGetEccMode", device, &now, &pending)) facts.ecc = now != 0;
  unsigned long long errors = 0;
  if (nvml.call("nvmlDeviceGetTotalEccErrors", device, kUncorrected, kVolatile, &errors))
    facts.uncorrected_errors = static_cast<int64_t>(errors);
  if (nvml.call("nvmlDeviceGetMigMode", device, &now, &pending)) facts.mig = now != 0;
  if (nvml.call("nvmlDeviceGetClockInfo", device, kSmClock, &now)) facts.clock_mhz = static_cast<int>(now);
  if (nvml.call("nvmlDeviceGetMaxClockInfo", device, kSmClock, &now)) facts.most_clock_mhz = static_cast<int>(now);
  unsigned long long reasons = 0;
  if (nvml.call("nvmlDeviceGetCurrentClocksThrottleReasons", device, &reasons))
    facts.slowed = (reasons & kThermalOrPowerFault) != 0;
}

}  // namespace vixen
