// Which device numerics run on, and how much memory it has.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/device_kind.hpp"

namespace vixen {

/// The device of this process, and the numerics that the project relies on: deterministic algorithms, on GPUs products
/// without TF32 and without sums of reduced precision. kCuda picks the rank's GPU (gpu_of_rank()) and makes it current.
/// UserError when there is none, or the build has no CUDA.
at::Device select_device(DeviceKind kind, int local_rank);

/// Threads for this rank, for OpenMP and ATen, whatever OMP_NUM_THREADS says. threads: at least 1.
void set_threads(int threads);

/// Bytes now and at the peak: resident set size on CPU, its allocator's statistics on another device; and those of
/// tensors alone, which on CPU are 0 before track_tensor_memory() (device/tracked_memory.hpp).
struct MemoryUse {
  int64_t current_bytes = 0;
  int64_t peak_bytes = 0;
  int64_t tensor_bytes = 0;
  int64_t peak_tensor_bytes = 0;
};
MemoryUse memory_use(at::Device device);

/// Bytes of a device that neither tensors of this process nor others have taken; none on a CPU.
std::optional<int64_t> free_bytes(at::Device device);
/// Bytes of memory that it has; a CPU's is the machine's.
int64_t device_bytes(at::Device device);
/// "NVIDIA H100 80GB HBM3"; "cpu".
std::string device_name(at::Device device);
/// Bytes of the L2 cache of a GPU; of any other device what an H100 has, so that plans are made everywhere.
int64_t l2_cache_bytes(at::Device device);

/// Number of usable GPUs (0 in a CPU build).
int gpu_count();
/// What tells GPU `index` from all others, instances of one card too; empty when there is no such GPU.
std::string gpu_identity(int index);
/// The NUMA node that GPU `index` hangs on; -1 when there is no such GPU, only one node, or none is told.
int gpu_numa_node(int index);

}  // namespace vixen
