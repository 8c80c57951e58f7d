#include "emulated/emulator.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <boost/context/fiber.hpp>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <unordered_set>
#include <utility>
#include <vector>

#include "emulated/global_memory.hpp"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace vixen::emulated {
namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr int kMostThreads = 1024;
constexpr size_t kCanaryBytes = 64;
constexpr unsigned char kCanary = 0xa5;

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Site {
  const char* file = "";
  int line = 0;
  bool operator==(const Site& other) const {
    return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
  }
  std::string name() const {
    const char* slash = std::strrchr(file, '/');
    return std::string(slash ? slash + 1 : file) + ":" + std::to_string(line);
  }
};

// Memory of a fiber's stack, which outlives it: what boost::context asks of an allocator of stacks.
struct Stack {
  char* memory;
  boost::context::stack_context allocate() const {
    boost::context::stack_context context;
    context.size = kStackBytes;
    context.sp = memory + kStackBytes;
    return context;
  }
  void deallocate(boost::context::stack_context& /*context*/) const {}
};

struct Fiber {
  boost::context::fiber context;
  std::unique_ptr<char[]> stack;
  void* sanitizer_stack = nullptr;
};

// A thread of the block that runs, apart from its fiber: all of a block lie close together.
struct Thread {
  Index index;
  State state = State::kDone;
  int rank = 0;  // in the order of the launch
  Site site;
  uint32_t mask = 0;
  // Of an exchange: what this lane brings, whose word it asks for, and what it gets, which the last lane to come hands
  // out.
  uint64_t brings = 0, gets = 0;
  int asks = 0;
};

struct Warp {
  uint32_t waiting = 0, done = 0;  // lanes at a barrier of the warp, and those that have left
};

struct SharedArray {
  const void* site;
  size_t bytes;
  std::unique_ptr<unsigned char, decltype(&std::free)> memory;
};

constexpr int64_t kSectorBytes = 32;

struct Machine {
  std::vector<Fiber> fibers;
  // In the middle of something when a launch failed: what they hold is not unwound.
  std::vector<Fiber> abandoned;
  std::vector<Thread> block_threads;
  std::array<Warp, kMostThreads / kWarpSize> warps;
  int threads = 0;
  int current = 0;
  int at_barrier = 0, done = 0;  // threads of the block
  Site barrier;                  // where those at a barrier of the block wait
  boost::context::fiber scheduler;
  void* scheduler_sanitizer_stack = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_bytes = 0;
  const std::function<void()>* body = nullptr;
  std::exception_ptr fault;
  Index block, block_size, grid_size;
  std::vector<SharedArray> shared;
  size_t dynamic_bytes = 0;
  Order order = Order::kForward;
  std::vector<int> by_rank;
  std::array<uint64_t, kMostThreads / 64> ready = {};  // by rank
  Counts counts;
  bool counts_memory = false;
  std::array<std::unordered_set<uintptr_t>, 2> sectors;  // of the launch: loaded, stored
};
// Never destroyed: fibers would unwind what they stand in.
Machine& machine = *new Machine;

Thread& thread_at(int thread) {
  return machine.block_threads[static_cast<size_t>(thread)];
}
Thread& self() {
  return thread_at(machine.current);
}
Warp& own_warp() {
  return machine.warps[static_cast<size_t>(machine.current / kWarpSize)];
}

// AddressSanitizer must hear of every change of stacks.
void before_switch([[maybe_unused]] void** save, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(save, stack, bytes);
#endif
}
void after_switch([[maybe_unused]] void* saved, [[maybe_unused]] const void** from, [[maybe_unused]] size_t* bytes) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(saved, from, bytes);
#endif
}

void give_way() {
  Fiber& fiber = machine.fibers[static_cast<size_t>(machine.current)];
  before_switch(&fiber.sanitizer_stack, machine.scheduler_stack, machine.scheduler_stack_bytes);
  machine.scheduler = std::move(machine.scheduler).resume();
  after_switch(fiber.sanitizer_stack, nullptr, nullptr);
}

void resume(int thread) {
  machine.current = thread;
  Fiber& fiber = machine.fibers[static_cast<size_t>(thread)];
  before_switch(&machine.scheduler_sanitizer_stack, fiber.stack.get(), kStackBytes);
  fiber.context = std::move(fiber.context).resume();
  after_switch(machine.scheduler_sanitizer_stack, nullptr, nullptr);
}

void make_ready(int thread) {
  Thread& released = thread_at(thread);
  released.state = State::kReady;
  // Who releases the others is not waiting: it goes on by itself.
  if (thread != machine.current)
    machine.ready[static_cast<size_t>(released.rank / 64)] |= uint64_t{1} << released.rank % 64;
}
int first_ready() {
  for (size_t word = 0; word < machine.ready.size(); ++word)
    if (machine.ready[word] != 0)
      return machine.by_rank[word * 64 + static_cast<size_t>(std::countr_zero(machine.ready[word]))];
  return -1;
}

std::string name_of(int thread) {
  return "thread " + std::to_string(thread) + " of block " + std::to_string(machine.block.x);
}

void leave() {
  if (machine.at_barrier > 0)
    fail(name_of(machine.current) + " left before the barrier at " + machine.barrier.name() + ", where others wait");
  machine.done += 1;
  own_warp().done |= uint32_t{1} << lane();
}

// A fiber serves one thread of one block after another.
[[noreturn]] void fiber_main() {
  after_switch(nullptr, &machine.scheduler_stack, &machine.scheduler_stack_bytes);
  for (;;) {
    try {
      (*machine.body)();
      leave();
    } catch (...) {
      machine.fault = std::current_exception();
    }
    self().state = State::kDone;
    give_way();
  }
}

void make_fibers(int threads) {
  while (static_cast<int>(machine.fibers.size()) < threads) {
    Fiber& fiber = machine.fibers.emplace_back();
    fiber.stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
    fiber.context = boost::context::fiber(std::allocator_arg, Stack{fiber.stack.get()},
                                          [](boost::context::fiber&& scheduler) -> boost::context::fiber {
                                            machine.scheduler = std::move(scheduler);
                                            fiber_main();
                                          });
  }
  machine.block_threads.assign(static_cast<size_t>(threads), {});
}

void abandon_fibers() {
  for (Fiber& fiber : machine.fibers) machine.abandoned.push_back(std::move(fiber));
  machine.fibers.clear();
  machine.shared.clear();
  machine.ready = {};
}

std::vector<int64_t> in_order(int64_t count, uint64_t seed) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (machine.order == Order::kReversed) std::reverse(order.begin(), order.end());
  if (machine.order == Order::kShuffled) std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  return order;
}

void* shared_of(const void* site, size_t bytes) {
  for (const SharedArray& array : machine.shared) {
    if (array.site != site) continue;
    if (array.bytes != bytes) fail("one shared array of two sizes");
    return array.memory.get();
  }
  const size_t whole = (bytes + kCanaryBytes + 127) / 128 * 128;
  auto* memory = static_cast<unsigned char*>(std::aligned_alloc(128, whole));
  std::memset(memory, 0xff, bytes);  // NaN as float and as bfloat16, -1 as an integer
  std::memset(memory + bytes, kCanary, whole - bytes);
  machine.shared.push_back({site, bytes, {memory, &std::free}});
  return memory;
}

void end_shared() {
  int64_t bytes = 0;
  for (const SharedArray& array : machine.shared) {
    bytes += static_cast<int64_t>(array.bytes);
    for (size_t i = 0; i < kCanaryBytes; ++i)
      if (array.memory.get()[array.bytes + i] != kCanary) {
        machine.shared.clear();
        fail("block " + std::to_string(machine.block.x) + " wrote behind the end of a shared array");
      }
  }
  machine.counts.shared_bytes = std::max(machine.counts.shared_bytes, bytes);
  machine.shared.clear();
}

bool waits_there(const Thread& thread, const Site& site, uint32_t mask) {
  return thread.state == State::kAtWarpBarrier && thread.mask == mask && thread.site == site;
}

/// When nobody can go on: what a thread waits for in vain.
std::string why_waiting(int thread) {
  const Thread& waiting = thread_at(thread);
  for (int i = 0; waiting.state == State::kAtWarpBarrier && i < kWarpSize; ++i) {
    if (!(waiting.mask >> i & 1u)) continue;
    const Thread& other = thread_at(thread / kWarpSize * kWarpSize + i);
    if (other.state == State::kDone) return "the mask at " + waiting.site.name() + " names a thread that has left";
    if (other.state == State::kAtWarpBarrier && !waits_there(other, waiting.site, waiting.mask))
      return "one warp waits at " + waiting.site.name() + " and at " + other.site.name() +
             (other.site == waiting.site ? " with two masks" : "");
  }
  return name_of(thread) + " waits for ever at " + waiting.site.name();
}

void run_block(uint64_t seed) {
  const std::vector<int64_t> order = in_order(machine.threads, seed);
  machine.by_rank.assign(order.begin(), order.end());
  machine.warps = {};
  machine.at_barrier = machine.done = 0;
  for (int rank = 0; rank < machine.threads; ++rank) {
    const int thread = machine.by_rank[static_cast<size_t>(rank)];
    thread_at(thread).rank = rank;
    thread_at(thread).index = {static_cast<unsigned>(thread), 0, 0};
    make_ready(thread);
  }
  for (;;) {
    // Always the first in the order that can go on: it runs ahead of the others as far as barriers let it, which is
    // what a missing one must not survive.
    if (const int thread = first_ready(); thread >= 0) {
      machine.ready[static_cast<size_t>(thread_at(thread).rank / 64)] &= ~(uint64_t{1} << thread_at(thread).rank % 64);
      resume(thread);
      if (!machine.fault) continue;
      abandon_fibers();
      std::rethrow_exception(std::exchange(machine.fault, nullptr));
    }
    for (int i = 0; i < machine.threads; ++i) {
      if (thread_at(i).state == State::kDone) continue;
      const std::string why = why_waiting(i);
      abandon_fibers();
      fail(why);
    }
    return end_shared();
  }
}

/// Lanes of this thread's warp that are in `mask`, as threads of the block.
template <class Visit>
void for_lanes(uint32_t mask, Visit visit) {
  const int first = machine.current / kWarpSize * kWarpSize;
  for (; mask != 0; mask &= mask - 1) visit(first + std::countr_zero(mask));
}

void check_mask(uint32_t mask, const Site& site) {
  if (!(mask >> lane() & 1u)) fail(name_of(machine.current) + " is not in the mask of " + site.name());
  const int lanes = std::min(machine.threads - machine.current / kWarpSize * kWarpSize, kWarpSize);
  if (const uint32_t lacking = lanes == kWarpSize ? 0 : mask >> lanes << lanes; lacking != 0)
    fail("the mask at " + site.name() + " names lane " + std::to_string(std::countr_zero(lacking)) +
         ", which the block lacks");
  if ((mask & own_warp().done) != 0) fail("the mask at " + site.name() + " names a thread that has left");
}

}  // namespace

void fail(const std::string& what) {
  throw Fault(what);
}

void set_order(Order order) {
  machine.order = order;
}
void count_memory(bool wanted) {
  machine.counts_memory = wanted;
}
void reset_counts() {
  machine.counts = {};
}
const Counts& counts() {
  return machine.counts;
}

void run(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body) {
  if (threads < 1 || threads > kMostThreads) fail(std::to_string(threads) + " threads in a block");
  machine.threads = threads;
  machine.body = &body;
  machine.dynamic_bytes = shared_bytes;
  machine.block_size = {static_cast<unsigned>(threads), 1, 1};
  machine.grid_size = {static_cast<unsigned>(blocks), 1, 1};
  machine.counts.launches += 1;
  machine.counts.blocks += blocks;
  make_fibers(threads);
  uint64_t seed = 0;
  for (const int64_t block : in_order(blocks, 1)) {
    machine.current = -1;
    machine.block = {static_cast<unsigned>(block), 0, 0};
    run_block(++seed);
  }
  for (auto& sectors : machine.sectors) {
    machine.counts.memory_bytes += kSectorBytes * static_cast<int64_t>(sectors.size());
    sectors.clear();
  }
}

const Index& thread_index() {
  return self().index;
}
const Index& block_index() {
  return machine.block;
}
const Index& block_size() {
  return machine.block_size;
}
const Index& grid_size() {
  return machine.grid_size;
}
int lane() {
  return machine.current % kWarpSize;
}

void block_barrier(const char* file, int line) {
  const Site site{file, line};
  if (machine.done > 0)
    for (int i = 0; i < machine.threads; ++i)
      if (thread_at(i).state == State::kDone) fail(name_of(i) + " left before the barrier at " + site.name());
  if (machine.at_barrier > 0 && !(machine.barrier == site))
    fail("one block waits at the barriers of " + machine.barrier.name() + " and " + site.name());
  machine.barrier = site;
  machine.at_barrier += 1;
  if (machine.at_barrier < machine.threads) {
    self().state = State::kAtBlockBarrier;
    self().site = site;
    return give_way();
  }
  machine.at_barrier = 0;
  for (int i = 0; i < machine.threads; ++i) make_ready(i);
}

namespace {

/// hand_out() once all lanes of the mask are here.
template <class HandOut>
void meet(uint32_t mask, const Site& site, HandOut hand_out) {
  check_mask(mask, site);
  Warp& warp = own_warp();
  const uint32_t own = uint32_t{1} << lane();
  bool all = (mask & ~(warp.waiting | own)) == 0;
  if (all) for_lanes(mask & ~own, [&](int i) { all = all && waits_there(thread_at(i), site, mask); });
  if (!all) {
    self().state = State::kAtWarpBarrier;
    self().site = site;
    self().mask = mask;
    warp.waiting |= own;
    return give_way();
  }
  hand_out();
  warp.waiting &= ~mask;
  for_lanes(mask, [](int i) { make_ready(i); });
}

}  // namespace

void warp_barrier(uint32_t mask, const char* file, int line) {
  meet(mask, {file, line}, [] {});
}

uint64_t exchange(uint32_t mask, uint64_t word, int source, const char* file, int line) {
  const Site site{file, line};
  if (source < 0 || source >= kWarpSize || !(mask >> source & 1u))
    fail(name_of(machine.current) + " reads lane " + std::to_string(source) + ", which is not in the mask of " +
         site.name());
  self().brings = word;
  self().asks = machine.current - lane() + source;
  meet(mask, site, [&] { for_lanes(mask, [](int i) { thread_at(i).gets = thread_at(thread_at(i).asks).brings; }); });
  return self().gets;
}

uint32_t ballot(uint32_t mask, uint64_t word, const char* file, int line) {
  self().brings = word;
  meet(mask, {file, line}, [&] {
    uint64_t bits = 0;
    for_lanes(mask, [&](int i) { bits |= uint64_t{thread_at(i).brings != 0} << (i % kWarpSize); });
    for_lanes(mask, [&](int i) { thread_at(i).gets = bits; });
  });
  return static_cast<uint32_t>(self().gets);
}

void* shared_array(const void* site, size_t bytes) {
  return shared_of(site, bytes);
}
void* dynamic_shared() {
  return shared_of(nullptr, machine.dynamic_bytes);
}

void* check_global(const void* address, size_t bytes, size_t alignment, bool is_store) {
  const auto place = reinterpret_cast<uintptr_t>(address);
  if (place % alignment != 0)
    fail(name_of(machine.current) + (is_store ? " writes " : " reads ") + std::to_string(bytes) +
         " bytes at an address that is no multiple of " + std::to_string(alignment));
  void* place_of_host = reached(address, bytes, is_store);
  if (place_of_host == nullptr && !inside_of_tensor(address, bytes))
    fail(name_of(machine.current) + (is_store ? " writes " : " reads ") + std::to_string(bytes) +
         " bytes outside of any tensor");
  (is_store ? machine.counts.stored_bytes : machine.counts.loaded_bytes) += static_cast<int64_t>(bytes);
  if (machine.counts_memory) {
    auto& sectors = machine.sectors.at(is_store ? 1 : 0);
    for (uintptr_t sector = place / kSectorBytes; sector <= (place + bytes - 1) / kSectorBytes; ++sector)
      sectors.insert(sector);
  }
  return place_of_host == nullptr ? const_cast<void*>(address) : place_of_host;
}

void* place_of_atomic(void* address, size_t bytes) {
  void* place = reached(address, bytes, /*is_store=*/true);
  return place == nullptr ? address : place;
}

}  // namespace vixen::emulated
