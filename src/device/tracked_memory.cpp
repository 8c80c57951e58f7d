// A wrapper around torch's CPU allocator.
#include "device/tracked_memory.hpp"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/check.hpp"

namespace vixen {
namespace {

std::atomic<int64_t> g_current{0}, g_peak{0};
c10::DeleterFnPtr g_free = nullptr;

void count(int64_t bytes) {
  const int64_t now = g_current.fetch_add(bytes) + bytes;
  int64_t peak = g_peak.load();
  while (now > peak && !g_peak.compare_exchange_weak(peak, now)) {
  }
}

void counted_free(void* data) {
  if (data == nullptr) return;
  g_current.fetch_sub(static_cast<int64_t>(malloc_usable_size(data)));
  g_free(data);
}

class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* inner) : inner_(inner) {}

  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr data = inner_->allocate(bytes);
    count(static_cast<int64_t>(malloc_usable_size(data.get())));
    VIXEN_CHECK(data.compare_exchange_deleter(g_free, &counted_free), "a CPU tensor with a deleter of its own");
    return data;
  }
  c10::DeleterFnPtr raw_deleter() const override { return &counted_free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { inner_->copy_data(to, from, bytes); }

 private:
  c10::Allocator* inner_;
};

}  // namespace

void track_tensor_memory() {
  static std::once_flag once;
  std::call_once(once, [] {
    c10::Allocator* inner = c10::GetDefaultCPUAllocator();
    g_free = inner->raw_deleter();
    static CountingAllocator allocator(inner);  // tensors may outlive everything else
    c10::SetCPUAllocator(&allocator, /*priority=*/100);
  });
}

int64_t tensor_bytes() {
  return g_current.load();
}

int64_t peak_tensor_bytes() {
  return g_peak.load();
}

void reset_peak_tensor_bytes() {
  g_peak.store(g_current.load());
}

}  // namespace vixen
