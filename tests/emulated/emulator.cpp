#include "emulated/emulator.hpp"

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
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
  bool operator==(const Site& other) const { return line == other.line && std::strcmp(file, other.file) == 0; }
  std::string name() const {
    const char* slash = std::strrchr(file, '/');
    return std::string(slash ? slash + 1 : file) + ":" + std::to_string(line);
  }
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  void* sanitizer_stack = nullptr;
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

struct SharedArray {
  const void* site;
  size_t bytes;
  std::unique_ptr<unsigned char, decltype(&std::free)> memory;
};

struct Machine {
  std::vector<Fiber> fibers;
  int threads = 0;
  int current = 0;
  ucontext_t scheduler;
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
};
Machine machine;

Fiber& fiber_of(int thread) {
  return machine.fibers[static_cast<size_t>(thread)];
}
Fiber& self() {
  return fiber_of(machine.current);
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
  Fiber& fiber = self();
  before_switch(&fiber.sanitizer_stack, machine.scheduler_stack, machine.scheduler_stack_bytes);
  swapcontext(&fiber.context, &machine.scheduler);
  after_switch(fiber.sanitizer_stack, nullptr, nullptr);
}

void resume(int thread) {
  machine.current = thread;
  Fiber& fiber = self();
  before_switch(&machine.scheduler_sanitizer_stack, fiber.stack.get(), kStackBytes);
  swapcontext(&machine.scheduler, &fiber.context);
  after_switch(machine.scheduler_sanitizer_stack, nullptr, nullptr);
}

void make_ready(int thread) {
  Fiber& fiber = fiber_of(thread);
  fiber.state = State::kReady;
  // Who releases the others is not waiting: it goes on by itself.
  if (thread != machine.current) machine.ready[static_cast<size_t>(fiber.rank / 64)] |= uint64_t{1} << fiber.rank % 64;
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
  for (int i = 0; i < machine.threads; ++i)
    if (fiber_of(i).state == State::kAtBlockBarrier)
      fail(name_of(machine.current) + " left before the barrier at " + fiber_of(i).site.name() + ", where others wait");
}

// A fiber serves one thread of one block after another.
void fiber_main() {
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
    machine.fibers.emplace_back();
    machine.fibers.back().stack = std::make_unique<char[]>(kStackBytes);
  }
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fiber_of(i);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    fiber.sanitizer_stack = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
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

bool waits_there(const Fiber& fiber, const Site& site, uint32_t mask) {
  return fiber.state == State::kAtWarpBarrier && fiber.site == site && fiber.mask == mask;
}

/// When nobody can go on: what a thread waits for in vain.
std::string why_waiting(int thread) {
  const Fiber& fiber = fiber_of(thread);
  for (int i = 0; fiber.state == State::kAtWarpBarrier && i < kWarpSize; ++i) {
    if (!(fiber.mask >> i & 1u)) continue;
    const Fiber& other = fiber_of(thread / kWarpSize * kWarpSize + i);
    if (other.state == State::kDone) return "the mask at " + fiber.site.name() + " names a thread that has left";
    if (other.state == State::kAtWarpBarrier && !waits_there(other, fiber.site, fiber.mask))
      return "one warp waits at " + fiber.site.name() + " and at " + other.site.name() +
             (other.site == fiber.site ? " with two masks" : "");
  }
  return name_of(thread) + " waits for ever at " + fiber.site.name();
}

void run_block(uint64_t seed) {
  const std::vector<int64_t> order = in_order(machine.threads, seed);
  machine.by_rank.assign(order.begin(), order.end());
  for (int rank = 0; rank < machine.threads; ++rank) {
    const int thread = machine.by_rank[static_cast<size_t>(rank)];
    Fiber& fiber = fiber_of(thread);
    fiber.rank = rank;
    fiber.index = {static_cast<unsigned>(thread), 0, 0};
    make_ready(thread);
  }
  for (;;) {
    // Always the first in the order that can go on: it runs ahead of the others as far as barriers let it, which is
    // what a missing one must not survive.
    if (const int thread = first_ready(); thread >= 0) {
      machine.ready[static_cast<size_t>(fiber_of(thread).rank / 64)] &= ~(uint64_t{1} << fiber_of(thread).rank % 64);
      resume(thread);
      if (!machine.fault) continue;
      // The other fibers are in the middle of something: they are made anew for the next launch.
      machine.shared.clear();
      machine.ready = {};
      std::rethrow_exception(std::exchange(machine.fault, nullptr));
    }
    for (int i = 0; i < machine.threads; ++i) {
      if (fiber_of(i).state == State::kDone) continue;
      machine.shared.clear();
      fail(why_waiting(i));
    }
    return end_shared();
  }
}

/// Lanes of this thread's warp that are in `mask`, as fibers.
template <class Visit>
void for_lanes(uint32_t mask, Visit visit) {
  const int first = machine.current / kWarpSize * kWarpSize;
  for (int i = 0; i < kWarpSize; ++i)
    if (mask >> i & 1u) visit(first + i);
}

void check_mask(uint32_t mask, const Site& site) {
  if (!(mask >> lane() & 1u)) fail(name_of(machine.current) + " is not in the mask of " + site.name());
  for_lanes(mask, [&](int i) {
    if (i >= machine.threads)
      fail("the mask at " + site.name() + " names lane " + std::to_string(i % kWarpSize) + ", which the block lacks");
    const Fiber& other = fiber_of(i);
    if (other.state == State::kDone) fail("the mask at " + site.name() + " names a thread that has left");
  });
}

}  // namespace

void fail(const std::string& what) {
  throw Fault(what);
}

void set_order(Order order) {
  machine.order = order;
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
  bool all = true;
  for (int i = 0; i < machine.threads; ++i) {
    const Fiber& other = fiber_of(i);
    if (i == machine.current) continue;
    if (other.state == State::kDone) fail(name_of(i) + " left before the barrier at " + site.name());
    if (other.state != State::kAtBlockBarrier)
      all = false;
    else if (!(other.site == site))
      fail("one block waits at the barriers of " + other.site.name() + " and " + site.name());
  }
  if (!all) {
    self().state = State::kAtBlockBarrier;
    self().site = site;
    return give_way();
  }
  for (int i = 0; i < machine.threads; ++i) make_ready(i);
}

namespace {

/// hand_out() once all lanes of the mask are here.
template <class HandOut>
void meet(uint32_t mask, const Site& site, HandOut hand_out) {
  check_mask(mask, site);
  bool all = true;
  for_lanes(mask, [&](int i) {
    if (i != machine.current && !waits_there(fiber_of(i), site, mask)) all = false;
  });
  if (!all) {
    self().state = State::kAtWarpBarrier;
    self().site = site;
    self().mask = mask;
    return give_way();
  }
  hand_out();
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
  meet(mask, site, [&] { for_lanes(mask, [](int i) { fiber_of(i).gets = fiber_of(fiber_of(i).asks).brings; }); });
  return self().gets;
}

uint32_t ballot(uint32_t mask, uint64_t word, const char* file, int line) {
  self().brings = word;
  meet(mask, {file, line}, [&] {
    uint64_t bits = 0;
    for_lanes(mask, [&](int i) { bits |= uint64_t{fiber_of(i).brings != 0} << (i % kWarpSize); });
    for_lanes(mask, [&](int i) { fiber_of(i).gets = bits; });
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
  return place_of_host == nullptr ? const_cast<void*>(address) : place_of_host;
}

void* place_of_atomic(void* address, size_t bytes) {
  void* place = reached(address, bytes, /*is_store=*/true);
  return place == nullptr ? address : place;
}

}  // namespace vixen::emulated
