// How much memory CPU tensors take: the allocator that all of them come from, with two counters.
#pragma once

#include <cstdint>

namespace vixen {

/// Counts every CPU tensor that is made from now on. Once a process; later calls do nothing. The bytes are those the C
/// library set aside, the tensors' own and what it rounds them up by; mapped files and what libraries allocate for
/// themselves are not among them.
void track_tensor_memory();
/// Bytes of the CPU tensors that are alive, 0 without track_tensor_memory(), and the most since the last reset.
int64_t tensor_bytes();
int64_t peak_tensor_bytes();
/// The peak starts again from what is alive now.
void reset_peak_tensor_bytes();

}  // namespace vixen
