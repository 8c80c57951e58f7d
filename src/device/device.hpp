// Which device numerics run on, and how much memory it has.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace vixen {

/// "cpu" or "cuda" -> device. "cuda" picks GPU `local_rank`, makes it current, and throws UserError when there is none
/// or the build has no CUDA; it also sets the deterministic, TF32-off numerics the project relies on.
at::Device select_device(const std::string& name, int local_rank);

/// Threads for this rank, for OpenMP and ATen, whatever OMP_NUM_THREADS says. threads: at least 1.
void set_threads(int threads);

/// Bytes now and at the peak: resident set size on CPU, allocator statistics on CUDA; and those of tensors alone, which
/// on CPU are 0 before track_tensor_memory() (device/tracked_memory.hpp).
struct MemoryUse {
  int64_t current_bytes = 0;
  int64_t peak_bytes = 0;
  int64_t tensor_bytes = 0;
  int64_t peak_tensor_bytes = 0;
};
MemoryUse memory_use(at::Device device);

/// Number of usable GPUs (0 in a CPU build).
int gpu_count();
/// The NUMA node that GPU `index` hangs on; -1 when there is no such GPU, only one node, or none is told.
int gpu_numa_node(int index);

}  // namespace vixen
