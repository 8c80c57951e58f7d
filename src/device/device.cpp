// Devices, threads and memory of this process.
#include "device/device.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "base/check.hpp"
#include "base/file.hpp"
#include "device/cpu_affinity.hpp"
#include "device/device_cuda.hpp"
#include "device/gpu_facts.hpp"
#include "device/tracked_memory.hpp"

namespace vixen {
namespace {

/// "VmRSS:     1234 kB" of /proc/self/status -> bytes; 0 where there is no such line.
int64_t status_bytes(std::string_view status, std::string_view name) {
  const size_t line = status.find(name);
  if (line == status.npos) return 0;
  const size_t digits = status.find_first_of("0123456789", line + name.size());
  int64_t kib = 0;
  if (digits != status.npos) std::from_chars(status.data() + digits, status.data() + status.size(), kib);
  return kib << 10;
}

}  // namespace

at::Device select_device(DeviceKind kind, int local_rank) {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // costs a pass over every new tensor
  if (kind == DeviceKind::kCpu) return at::Device(at::kCPU);
  const int gpu = gpu_of_rank(local_rank, gpu_count());
  detail::select_gpu(gpu);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(gpu));
}

void set_threads(int threads) {
  VIXEN_CHECK(threads >= 1, "{} threads", threads);
  at::set_num_threads(threads);
  omp_set_num_threads(threads);
}

MemoryUse memory_use(at::Device device) {
  if (!device.is_cpu()) {
    const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    const auto& bytes = stats.allocated_bytes.at(static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE));
    return {bytes.current, bytes.peak, bytes.current, bytes.peak};
  }
  const std::string status = read_text("/proc/self/status");
  return {status_bytes(status, "VmRSS:"), status_bytes(status, "VmHWM:"), tensor_bytes(), peak_tensor_bytes()};
}

int64_t l2_cache_bytes(at::Device device) {
  constexpr int64_t kOfAnH100 = 50'000'000;
  const int64_t told = device.is_cuda() ? detail::gpu_l2_bytes(device.index()) : 0;
  return told > 0 ? told : kOfAnH100;
}

std::optional<int64_t> free_bytes(at::Device device) {
  if (device.is_cpu()) return {};
  auto* allocator = c10::getDeviceAllocator(device.type());
  // What its allocator keeps for the next tensor is free, too.
  const auto stats = allocator->getDeviceStats(device.index());
  const auto now = [](const auto& of) {
    return of.at(static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)).current;
  };
  const int64_t kept = std::max<int64_t>(0, now(stats.reserved_bytes) - now(stats.allocated_bytes));
  return static_cast<int64_t>(allocator->getMemoryInfo(device.index()).first) + kept;
}

int64_t device_bytes(at::Device device) {
  if (device.is_cpu()) return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  return static_cast<int64_t>(c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).second);
}

std::string device_name(at::Device device) {
  if (device.is_cpu()) return "cpu";
  for (const GpuFacts& facts : gpu_facts(device.index()))
    if (facts.index == device.index() && !facts.name.empty()) return facts.name;
  return device.str();
}

int gpu_count() {
  return detail::count_gpus();
}

std::string gpu_identity(int index) {
  return detail::gpu_uuid(index);
}

int gpu_numa_node(int index) {
  const std::string bus_id = detail::gpu_bus_id(index);
  return bus_id.empty() ? -1 : numa_node_of(bus_id);
}

}  // namespace vixen
