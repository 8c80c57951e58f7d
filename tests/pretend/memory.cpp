#include "pretend/memory.hpp"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <vector>

#include "base/check.hpp"
#include "pretend/ledger.hpp"

namespace vixen::pretend {
namespace {

constexpr size_t kArenaBytes = size_t{16} << 30;  // of addresses; memory is taken as it is written
constexpr size_t kAlignment = 64;

struct Block {
  void* address = nullptr;
  size_t bytes = 0, held = 0;
  Use use;
};

// A file in memory that is mapped twice: without any permission, which gives the device's addresses, and to be used.
class Arena {
 public:
  Arena() {
    const int file = ::memfd_create("pretend device", MFD_CLOEXEC);
    VIXEN_CHECK(file >= 0 && ::ftruncate(file, static_cast<off_t>(kArenaBytes)) == 0, "memory of the pretend device");
    closed_ = map(PROT_NONE, file);
    open_ = map(PROT_READ | PROT_WRITE, file);
    ::close(file);
  }
  void* take(size_t bytes, size_t* held) {
    *held = rounded(bytes);
    auto& free = free_[*held];
    if (!free.empty()) {
      void* address = free.back();
      free.pop_back();
      return address;
    }
    VIXEN_CHECK(used_ + *held <= kArenaBytes, "the pretend device has {} bytes", kArenaBytes);
    used_ += *held;
    return closed_ + (used_ - *held);
  }
  void give_back(void* address, size_t held) { free_[held].push_back(address); }
  void* opened(const void* address) const {
    const auto* at = static_cast<const char*>(address);
    return at >= closed_ && at < closed_ + kArenaBytes ? open_ + (at - closed_) : nullptr;
  }
  bool is_open(const void* address) const {
    const auto* at = static_cast<const char*>(address);
    return at >= open_ && at < open_ + kArenaBytes;
  }

 private:
  static char* map(int protection, int file) {
    void* at = ::mmap(nullptr, kArenaBytes, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
    VIXEN_CHECK(at != MAP_FAILED, "addresses of the pretend device");
    return static_cast<char*>(at);
  }
  // Few sizes, at most a quarter more than asked for, so that what is freed is of use again.
  static size_t rounded(size_t bytes) {
    const size_t step = std::max(kAlignment, std::bit_floor(std::max<size_t>(bytes, 1)) / 4);
    return std::max(kAlignment, (bytes + step - 1) / step * step);
  }

  char *closed_ = nullptr, *open_ = nullptr;
  size_t used_ = 0;
  std::map<size_t, std::vector<void*>> free_;
};

Arena& arena() {
  static auto* only = new Arena;
  return *only;
}

class DeviceMemory final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const std::lock_guard lock(device_lock());
    auto* block = new Block{.bytes = bytes, .use = new_use()};
    block->address = arena().take(bytes, &block->held);
    blocks_[static_cast<const char*>(block->address)] = block;
    count_.increase(bytes);
    return {block->address, block, &release, c10::Device(c10::kPrivateUse1, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(host_address(to), host_address(from), bytes);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr& data, c10::Stream stream) override {
    record_on_stream(data, static_cast<int>(stream.id()));
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    const std::lock_guard lock(device_lock());
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0] = count_;  // the aggregate
    return stats;
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override {
    const std::lock_guard lock(device_lock());
    const auto used = static_cast<size_t>(count_.current);
    return {free_bytes, free_bytes + used};
  }
  void resetAccumulatedStats(c10::DeviceIndex) override { count_.reset_accumulated(); }
  void resetPeakStats(c10::DeviceIndex) override {
    const std::lock_guard lock(device_lock());
    count_.reset_peak();
  }
  const c10::CachingAllocator::Stat& count() const { return count_; }

  std::optional<Access> access_at(const char* address, size_t bytes) {
    auto after = blocks_.upper_bound(address);
    if (after == blocks_.begin()) return std::nullopt;
    const auto& [begin, block] = *--after;
    const auto first = static_cast<size_t>(address - begin);
    if (first + bytes > block->bytes) return std::nullopt;
    return Access{&block->use, first, first + bytes, static_cast<int64_t>(bytes)};
  }

  size_t block_bytes(const char* address) const {
    auto after = blocks_.upper_bound(address);
    return after == blocks_.begin() ? 0 : std::prev(after)->second->bytes;
  }

  size_t free_bytes = size_t{1} << 50;

 private:
  static void release(void* context);
  std::map<const char*, Block*> blocks_;  // by address
  c10::CachingAllocator::Stat count_;
};

DeviceMemory& memory() {
  static auto* only = new DeviceMemory;
  return *only;
}

void DeviceMemory::release(void* context) {
  const std::lock_guard lock(device_lock());
  const auto* block = static_cast<Block*>(context);
  check_freed(block->use);
  memory().count_.decrease(block->bytes);
  memory().blocks_.erase(static_cast<const char*>(block->address));
  arena().give_back(block->address, block->held);
  delete block;
}

// Copies that the host has not waited for.
struct Down {
  char* target;
  std::vector<char> values;
  Stamp copied;
};
struct Up {
  const char* source;
  std::vector<char> values;
  Stamp copied;
};

struct Pinned {
  std::map<const char*, size_t> blocks;  // by address: bytes
  std::vector<Down> down;
  std::vector<Up> up;
};

Pinned& pinned() {
  static auto* only = new Pinned;
  return *only;
}

void check_unchanged(const Up& up) {
  if (std::memcmp(up.source, up.values.data(), up.values.size()) != 0)
    add_fault(FaultKind::kRewritten, "pinned memory was written while its copy to the device was on the way");
}

bool overlap(const char* a, size_t a_bytes, const char* b, size_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

// As CUDA's: what is freed is kept until the copies from and to it have ended.
class PinnedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const std::lock_guard lock(device_lock());
    void* data = c10::alloc_cpu(std::max<size_t>(bytes, 1));
    pinned().blocks[static_cast<const char*>(data)] = std::max<size_t>(bytes, 1);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  static void release(void* data) {
    const std::lock_guard lock(device_lock());
    auto& [blocks, down, up] = pinned();
    const auto* begin = static_cast<const char*>(data);
    const size_t bytes = blocks[begin];
    std::erase_if(down, [&](const Down& copy) { return overlap(copy.target, copy.values.size(), begin, bytes); });
    std::erase_if(up, [&](const Up& copy) {
      if (!overlap(copy.source, copy.values.size(), begin, bytes)) return false;
      check_unchanged(copy);
      return true;
    });
    blocks.erase(begin);
    c10::free_cpu(data);
  }
};

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static auto* only = new PinnedMemory;
    return only;
  }
  bool isPinnedPtr(const void* data) const override {
    {
      const std::lock_guard lock(device_lock());
      const auto& blocks = pinned().blocks;
      const auto* at = static_cast<const char*>(data);
      auto after = blocks.upper_bound(at);
      if (after != blocks.begin() && at < std::prev(after)->first + std::prev(after)->second) return true;
    }
    // ATen asks CUDA for pinned memory where there is a GPU.
    return at::globalContext().hasCUDA() && at::detail::getCUDAHooks().isPinnedPtr(data);
  }
};

}  // namespace

c10::Allocator& device_memory() {
  return memory();
}

void* host_address(const void* device_address) {
  return arena().opened(device_address);
}

bool is_host_address(const void* address) {
  return arena().is_open(address);
}

std::optional<Access> access_of(const at::Tensor& tensor) {
  auto* block = static_cast<Block*>(tensor.storage().data_ptr().get_context());
  if (block == nullptr || tensor.numel() == 0) return std::nullopt;
  int64_t last = tensor.storage_offset();
  for (int64_t d = 0; d < tensor.dim(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
  const size_t element = tensor.element_size();
  // A view leaves columns out, an expanded tensor repeats its numbers.
  const int64_t used = std::min(tensor.numel(), last + 1 - tensor.storage_offset());
  return Access{&block->use, static_cast<size_t>(tensor.storage_offset()) * element,
                static_cast<size_t>(last + 1) * element, used * static_cast<int64_t>(element)};
}

std::optional<Access> access_at(const void* device_address, size_t bytes) {
  const std::lock_guard lock(device_lock());
  return memory().access_at(static_cast<const char*>(device_address), bytes);
}

size_t block_bytes(const void* device_address) {
  const std::lock_guard lock(device_lock());
  return memory().block_bytes(static_cast<const char*>(device_address));
}

void record_on_stream(const c10::DataPtr& data, int stream) {
  const std::lock_guard lock(device_lock());
  if (auto* block = static_cast<Block*>(data.get_context())) block->use.recorded.push_back(stream);
}

void register_memory() {
  static auto* hooks = new Hooks;
  c10::SetAllocator(c10::kPrivateUse1, &memory());
  at::RegisterPrivateUse1HooksInterface(hooks);
}

void copy_down_later(void* target, const void* source, size_t bytes, const Stamp& copied) {
  const std::lock_guard lock(device_lock());
  const auto* values = static_cast<const char*>(source);
  pinned().down.push_back({static_cast<char*>(target), {values, values + bytes}, copied});
  std::memset(target, 0xff, bytes);
}

void watch_copy_up(const void* source, size_t bytes, const Stamp& copied) {
  const std::lock_guard lock(device_lock());
  const auto* values = static_cast<const char*>(source);
  pinned().up.push_back({values, {values, values + bytes}, copied});
}

void deliver_to_current(const void* source, size_t bytes) {
  const std::lock_guard lock(device_lock());
  const auto* begin = static_cast<const char*>(source);
  for (const Down& copy : pinned().down)
    if (overlap(copy.target, copy.values.size(), begin, bytes) && current_follows(copy.copied))
      std::copy(copy.values.begin(), copy.values.end(), copy.target);
}

void deliver_what_the_host_knows() {
  const std::lock_guard lock(device_lock());
  std::erase_if(pinned().down, [](const Down& copy) {
    if (!host_knows(copy.copied)) return false;
    std::copy(copy.values.begin(), copy.values.end(), copy.target);
    return true;
  });
  std::erase_if(pinned().up, [](const Up& copy) {
    if (!host_knows(copy.copied)) return false;
    check_unchanged(copy);
    return true;
  });
}

int64_t bytes() {
  const std::lock_guard lock(device_lock());
  return memory().count().current;
}

int64_t peak_bytes() {
  const std::lock_guard lock(device_lock());
  return memory().count().peak;
}

void reset_peak_bytes() {
  memory().resetPeakStats(0);
}

void set_free_bytes(int64_t bytes) {
  const std::lock_guard lock(device_lock());
  memory().free_bytes = static_cast<size_t>(bytes);
}

}  // namespace vixen::pretend
