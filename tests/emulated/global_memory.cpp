#include "emulated/global_memory.hpp"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

namespace vixen::emulated {
namespace {

// Between tensors, so that one byte too far is never another tensor's first.
constexpr size_t kGapBytes = 64;

std::mutex mutex;
std::map<uintptr_t, size_t> live;

// The tensors that were last asked for: a kernel asks for a few, many times.
struct Known {
  uintptr_t begin = 0;
  size_t bytes = 0;
};
std::array<Known, 8> known;
size_t next_known = 0;

bool holds(uintptr_t begin, size_t held, uintptr_t place, size_t bytes) {
  return place >= begin && place - begin + bytes <= held;
}

void forget(void* data) {
  {
    const std::lock_guard lock(mutex);
    live.erase(reinterpret_cast<uintptr_t>(data));
    known = {};
  }
  std::free(data);
}

struct TrackingAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &forget, c10::Device(c10::kCPU)};
    void* data = std::aligned_alloc(64, (bytes + kGapBytes + 63) / 64 * 64);
    if (data == nullptr) throw std::bad_alloc();
    std::memset(data, 0xff, bytes);  // NaN: what no kernel wrote shows
    const std::lock_guard lock(mutex);
    live[reinterpret_cast<uintptr_t>(data)] = bytes;
    return {data, data, &forget, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &forget; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
};
TrackingAllocator allocator;

Reach device = nullptr;

}  // namespace

void reach_device(Reach reach) {
  device = reach;
}

void* reached(const void* address, size_t bytes, bool is_store) {
  return device == nullptr ? nullptr : device(address, bytes, is_store);
}

void track_tensors() {
  c10::SetCPUAllocator(&allocator, /*priority=*/100);
}

bool inside_of_tensor(const void* address, size_t bytes) {
  const auto place = reinterpret_cast<uintptr_t>(address);
  const std::lock_guard lock(mutex);
  for (const Known& one : known)
    if (holds(one.begin, one.bytes, place, bytes)) return true;
  auto after = live.upper_bound(place);
  if (after == live.begin()) return false;
  const auto& [begin, held] = *--after;
  if (!holds(begin, held, place, bytes)) return false;
  known[next_known++ % known.size()] = {begin, held};
  return true;
}

}  // namespace vixen::emulated
