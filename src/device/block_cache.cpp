// Size classes, the free list, and what goes back to the system.
#include "device/block_cache.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

namespace vixen {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kHugePageBytes = size_t{1} << 21;

// In front of every block, a cache line long, so that the data behind it is aligned.
struct alignas(kLine) Header {
  size_t bytes;  // of the whole block, header included
  size_t asked;
};

Header* header_of(void* data) {
  return static_cast<Header*>(data) - 1;
}

void* map_block(size_t bytes) {
  void* block = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  // Fewer page faults and misses of the address cache; where the system has no huge pages nothing changes.
  if (bytes >= 4 * kHugePageBytes) (void)::madvise(block, bytes, MADV_HUGEPAGE);
  return block;
}

}  // namespace

size_t BlockCache::rounded(size_t bytes) {
  const size_t whole = bytes + sizeof(Header);
  if (whole < kLargeBytes) return (whole + kLine - 1) / kLine * kLine;
  const size_t step = std::bit_floor(whole) / 8;  // eight classes between powers of two
  return (whole + step - 1) / step * step;
}

void* BlockCache::take(size_t bytes) {
  const size_t size = rounded(bytes);
  void* block = nullptr;
  std::unique_lock lock(mutex_);
  asked_ += bytes;
  in_use_ += size;
  peak_ = std::max(peak_, asked_);
  most_in_use_ = std::max(most_in_use_, in_use_);
  if (size >= kLargeBytes) {
    const auto found = free_blocks_.find(size);
    if (found != free_blocks_.end()) {
      block = found->second->block;
      kept_bytes_ -= size;
      kept_.erase(found->second);
      free_blocks_.erase(found);
    } else {
      trim(lock);  // what is in use has grown: less may be kept
    }
  }
  lock.unlock();
  if (block == nullptr) {
    try {
      block = size >= kLargeBytes ? map_block(size) : std::aligned_alloc(kLine, size);
      if (block == nullptr) throw std::bad_alloc();
    } catch (const std::bad_alloc&) {
      lock.lock();
      asked_ -= bytes;
      in_use_ -= size;
      throw;
    }
  }
  auto* header = static_cast<Header*>(block);
  *header = {size, bytes};
  return header + 1;
}

void BlockCache::give_back(void* data) {
  if (data == nullptr) return;
  Header* header = header_of(data);
  const size_t size = header->bytes;
  std::unique_lock lock(mutex_);
  asked_ -= header->asked;
  in_use_ -= size;
  if (size < kLargeBytes) {
    lock.unlock();
    std::free(header);
    return;
  }
  kept_.push_back({header, size});
  free_blocks_.emplace(size, std::prev(kept_.end()));
  kept_bytes_ += size;
  trim(lock);
}

// Gives the blocks that have been free the longest back, while those in use and those kept are together more than the
// most ever in use and the share on top. Within a step that keeps everything; a change of sizes wears the old ones out.
void BlockCache::trim(std::unique_lock<std::mutex>& lock) {
  const size_t allowed =
      most_in_use_ + std::max(kKeptFloorBytes, static_cast<size_t>(kKeptShare * static_cast<double>(most_in_use_)));
  std::vector<Kept> surplus;
  while (!kept_.empty() && in_use_ + kept_bytes_ > allowed) {
    const Kept oldest = kept_.front();
    const auto [first, last] = free_blocks_.equal_range(oldest.bytes);
    for (auto it = first; it != last; ++it)
      if (it->second == kept_.begin()) {
        free_blocks_.erase(it);
        break;
      }
    kept_.pop_front();
    kept_bytes_ -= oldest.bytes;
    surplus.push_back(oldest);
  }
  lock.unlock();
  for (const Kept& block : surplus) ::munmap(block.block, block.bytes);
  lock.lock();
}

BlockCache::~BlockCache() {
  for (const Kept& block : kept_) ::munmap(block.block, block.bytes);
}

int64_t BlockCache::in_use_bytes() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(asked_);
}

int64_t BlockCache::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(peak_);
}

int64_t BlockCache::held_bytes() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(in_use_ + kept_bytes_);
}

void BlockCache::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = asked_;
}

}  // namespace vixen
