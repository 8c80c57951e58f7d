// The memory of the pretend device, and pinned memory of the host.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <optional>

#include "pretend/streams.hpp"

namespace vixen::pretend {

/// Blocks of the device. An address of it is a number to the host: what lies there cannot be read or written through
/// it.
c10::Allocator& device_memory();

/// Where the CPU reaches the same memory; null for an address that is not the device's.
void* host_address(const void* device_address);

/// Whether the CPU's address is such a place.
bool is_host_address(const void* address);

/// The bytes of its block that a tensor spans; nothing for a tensor without elements.
std::optional<Access> access_of(const at::Tensor& tensor);

/// The block in which these bytes of the device lie; nothing where they are no one block's.
std::optional<Access> access_at(const void* device_address, size_t bytes);
/// Bytes of the block in which the address lies, from its begin; 0 outside of any.
size_t block_bytes(const void* device_address);

void record_on_stream(const c10::DataPtr& data, int stream);

/// Registers both allocators with ATen.
void register_memory();

/// A copy of `bytes` from the device (`source`: an address of the host, see above) to pinned memory at `target`, after
/// the work of the current stream, whose moment `copied` is: it arrives when the host waits for it.
void copy_down_later(void* target, const void* source, size_t bytes, const Stamp& copied);

/// A copy up from pinned memory that has not ended before the host has waited for it: the memory must stay as it is.
void watch_copy_up(const void* source, size_t bytes, const Stamp& copied);

/// What was copied down to these bytes arrives where the current stream's work follows it: another copy reads them.
void deliver_to_current(const void* source, size_t bytes);

void deliver_what_the_host_knows();

}  // namespace vixen::pretend
