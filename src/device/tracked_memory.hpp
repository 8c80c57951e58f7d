// Where CPU tensors come from: one cache of memory blocks (device/block_cache.hpp) that counts what is alive.
#pragma once

#include <cstdint>

namespace vixen {

/// Every CPU tensor that is made from now on comes from the cache and is counted. Once a process; later calls do
/// nothing. Mapped files and what libraries allocate for themselves are not among them.
void track_tensor_memory();
/// Bytes of the CPU tensors that are alive, 0 without track_tensor_memory(), and the most since the last reset.
int64_t tensor_bytes();
int64_t peak_tensor_bytes();
/// Resets the peak to what is allocated now.
void reset_peak_tensor_bytes();

}  // namespace vixen
