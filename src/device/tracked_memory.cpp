// torch's CPU allocator on our block cache.
#include "device/tracked_memory.hpp"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <mutex>

#include "device/block_cache.hpp"

namespace vixen {
namespace {

std::atomic<BlockCache*> g_blocks{nullptr};

void give_back(void* data) {
  if (data != nullptr) g_blocks.load()->give_back(data);
}

class TensorAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes == 0 ? nullptr : g_blocks.load()->take(bytes);
    return {data, data, &give_back, at::Device(at::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};

}  // namespace

void track_tensor_memory() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Never destroyed: tensors may outlive everything else.
    g_blocks = new BlockCache;
    c10::SetCPUAllocator(new TensorAllocator, /*priority=*/100);
  });
}

int64_t tensor_bytes() {
  const auto* blocks = g_blocks.load();
  return blocks == nullptr ? 0 : blocks->in_use_bytes();
}

int64_t peak_tensor_bytes() {
  const auto* blocks = g_blocks.load();
  return blocks == nullptr ? 0 : blocks->peak_bytes();
}

void reset_peak_tensor_bytes() {
  if (auto* blocks = g_blocks.load(); blocks != nullptr) blocks->reset_peak();
}

}  // namespace vixen
