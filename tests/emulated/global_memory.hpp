// What stands for a GPU's global memory: the tensors that live, to the byte.
#pragma once

#include <cstddef>

namespace vixen::emulated {

/// From now on new CPU tensors are noted, and lie between bytes that belong to nobody. Once a process.
void track_tensors();

/// Memory of a device whose addresses mean nothing to the host (tests/pretend): where the host finds these bytes of one
/// tensor; null where the address is none of the device's. Throws Fault where it is, but the bytes are no tensor's.
using Reach = void* (*)(const void* address, size_t bytes, bool is_store);
/// From now on kernels reach it; null: the host's tensors alone.
void reach_device(Reach reach);
/// The device's bytes as above; null without a device.
void* reached(const void* address, size_t bytes, bool is_store);

/// Whether [address, address + bytes) lies in one tensor that lives.
bool inside_of_tensor(const void* address, size_t bytes);

}  // namespace vixen::emulated
