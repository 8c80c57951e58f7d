// Devices, threads and memory of this process.
#include "device/device.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <vector>

#include "base/check.hpp"
#include "base/file.hpp"
#include "device/device_cuda.hpp"
#include "device/tracked_memory.hpp"

namespace vixen {
namespace {

/// Cores that the scheduler, a container or the launcher lets this process use.
int allowed_cores() {
  // The kernel refuses masks smaller than the machine's possible CPUs: grow until it fits.
  for (int most = 1024; most <= (1 << 20); most *= 4) {
    std::vector<char> storage(CPU_ALLOC_SIZE(most));
    auto* mask = reinterpret_cast<cpu_set_t*>(storage.data());
    if (sched_getaffinity(0, storage.size(), mask) == 0) return std::max(1, CPU_COUNT_S(storage.size(), mask));
    if (errno != EINVAL) break;
  }
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

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

at::Device select_device(const std::string& name, int local_rank) {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // costs a pass over every new tensor
  if (name == "cpu") return at::Device(at::kCPU);
  if (name != "cuda") fail_user("device = {}: expected cpu or cuda", name);
#ifdef VIXEN_CUDA
  detail::select_gpu(local_rank);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
#else
  fail_user(
      "device = cuda: this build has no CUDA (rank {} of the node): build with -DVIXEN_CUDA=ON, or use --device cpu",
      local_rank);
#endif
}

int set_threads(int requested, int local_size) {
  VIXEN_CHECK(requested >= 0 && local_size >= 1, "{} threads, {} ranks on this node", requested, local_size);
  const int threads = requested > 0 ? requested : std::max(1, allowed_cores() / local_size);
  at::set_num_threads(threads);
  omp_set_num_threads(threads);
  return threads;
}

MemoryUse memory_use(at::Device device) {
#ifdef VIXEN_CUDA
  if (device.is_cuda()) return detail::gpu_memory_use(device.index());
#endif
  VIXEN_CHECK(device.is_cpu(), "memory of device {}", device.str());
  const std::string status = read_text("/proc/self/status");
  return {status_bytes(status, "VmRSS:"), status_bytes(status, "VmHWM:"), tensor_bytes(), peak_tensor_bytes()};
}

int gpu_count() {
#ifdef VIXEN_CUDA
  return detail::count_gpus();
#else
  return 0;
#endif
}

}  // namespace vixen
