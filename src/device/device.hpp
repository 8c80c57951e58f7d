// Which device numerics run on, and how much memory it has.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace vixen {

/// "cpu" or "cuda" -> device. "cuda" picks GPU `local_rank`, makes it current, and throws UserError when there is none
/// or the build has no CUDA; it also sets the deterministic, TF32-off numerics the project relies on.
at::Device select_device(const std::string& name, int local_rank);

/// Threads for this rank: `requested`, or (0) the cores allowed to this process over the ranks of the node. Sets OpenMP
/// and ATen.
int set_threads(int requested, int local_size);

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

}  // namespace vixen
