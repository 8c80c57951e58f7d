// What stands for a GPU's global memory: the tensors that live, to the byte.
#pragma once

#include <cstddef>

namespace vixen::emulated {

/// From now on new CPU tensors are noted, and lie between bytes that belong to nobody. Once a process.
void track_tensors();

/// Whether [address, address + bytes) lies in one tensor that lives.
bool inside_of_tensor(const void* address, size_t bytes);

}  // namespace vixen::emulated
