// Blocks of host memory for CPU tensors: large ones are mapped, kept when they are freed, and reused.
//
// A training step makes and drops the same large tensors over and over, in sizes that differ a little from batch to
// batch. The C library either maps each one anew, page fault by page fault, or keeps them on a heap that such sizes
// tear to pieces: a run's resident memory then grows to twice its tensors. Here sizes are rounded up to few classes, a
// class keeps its free blocks, and what is kept beyond a share of the peak goes back to the system at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>

namespace vixen {

class BlockCache {
 public:
  /// Blocks below this come from the C library and go back to it.
  static constexpr size_t kLargeBytes = size_t{1} << 18;
  /// Free blocks are kept up to this share of the most bytes that were in use at once, and never below the floor.
  static constexpr double kKeptShare = 0.125;
  static constexpr size_t kKeptFloorBytes = size_t{1} << 26;

  BlockCache() = default;
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;
  /// Blocks still in use are the user's; free ones go back to the system.
  ~BlockCache();

  /// What a request of so many bytes takes: at most an eighth more, where it is large.
  static size_t rounded(size_t bytes);

  /// A block of at least `bytes` bytes that begins on a cache line; uninitialised. std::bad_alloc when there is none.
  /// Thread-safe, as give_back().
  void* take(size_t bytes);
  void give_back(void* data);

  /// Bytes asked for and in use, and the most since the last reset.
  int64_t in_use_bytes() const;
  int64_t peak_bytes() const;
  /// Bytes taken from the system: what is in use, rounded up, and the free blocks that are kept.
  int64_t held_bytes() const;
  void reset_peak();

 private:
  struct Kept {
    void* block;
    size_t bytes;
  };
  void trim(std::unique_lock<std::mutex>& lock);

  mutable std::mutex mutex_;
  std::list<Kept> kept_;                                          // oldest first
  std::multimap<size_t, std::list<Kept>::iterator> free_blocks_;  // by size
  size_t asked_ = 0, peak_ = 0;                                   // bytes asked for
  size_t in_use_ = 0, most_in_use_ = 0, kept_bytes_ = 0;          // rounded
};

}  // namespace vixen
