// Runs blocks of a CUDA kernel on one host thread, a fiber a thread of the block, and says where the kernel breaks the
// rules that a GPU does not check: barriers, masks of warps, memory.
//   A fiber runs until it waits; then the first that can, in the order that the test chooses, so that some threads are
//   as far ahead of the others as barriers let them. A kernel whose results depend on the order has a race. What this
//   cannot show: the memory model, tensor cores, speed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace vixen::emulated {

constexpr int kWarpSize = 32;

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

/// A rule that a kernel broke; the launch ends with it.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Who goes first, of the threads of a block and of the blocks.
enum class Order { kForward, kReversed, kShuffled };
void set_order(Order order);

/// What the launches since reset_counts() did.
struct Counts {
  int64_t launches = 0, blocks = 0;
  int64_t loaded_bytes = 0, stored_bytes = 0;  // of global memory, by global_load and global_store
  int64_t shared_bytes = 0;                    // the most that a block had
  // Where memory is counted: 32 bytes for each sector that a launch loaded or stored, once a launch, as if a cache
  // forgot nothing while one lasts.
  int64_t memory_bytes = 0;
};
void count_memory(bool wanted);
void reset_counts();
const Counts& counts();

/// body() as each thread of each block.
void run(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body);

// The rest is asked by a running kernel, through the names of CUDA (device/kernels/cuda/runtime.cuh).

const Index& thread_index();
const Index& block_index();
const Index& block_size();
const Index& grid_size();

/// A block's barrier: all its threads must come to it, at one line.
void block_barrier(const char* file, int line);
/// A barrier of the lanes in `mask`, who must all come with this mask to this line.
void warp_barrier(uint32_t mask, const char* file, int line);
/// The word of the lane `source` after a warp's barrier, to which each lane brings its own.
uint64_t exchange(uint32_t mask, uint64_t word, int source, const char* file, int line);
/// The bits of the lanes in `mask` whose word is not zero.
uint32_t ballot(uint32_t mask, uint64_t word, const char* file, int line);
/// This thread's lane.
int lane();

/// The block's array of `bytes` for the declaration `site`, full of NaN when its first thread asks.
void* shared_array(const void* site, size_t bytes);
/// The launch's shared_bytes, likewise.
void* dynamic_shared();

/// Counts an access of global memory, whose address must be a multiple of `alignment` and inside of one tensor; returns
/// where the host finds it.
void* check_global(const void* address, size_t bytes, size_t alignment, bool is_store);
/// Where the host finds what an atomic works on, of global or shared memory.
void* place_of_atomic(void* address, size_t bytes);

[[noreturn]] void fail(const std::string& what);

}  // namespace vixen::emulated
