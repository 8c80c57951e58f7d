// Produces items in a background thread, a few ahead of their use.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

#include "base/check.hpp"
#include "device/one_thread.hpp"

namespace vixen {

/// Calls produce(first), produce(first + 1), ..., produce(last - 1) in one background thread, at most `depth` results
/// ahead of next(). One consumer. The destructor stops at once: it waits for the call of produce in progress, no more.
template <typename T>
class Prefetcher {
 public:
  Prefetcher(std::function<T(int64_t index)> produce, int64_t first, int64_t last, size_t depth)
      : produce_(std::move(produce)), next_(first), last_(last), depth_(depth) {
    VIXEN_CHECK(depth >= 1 && first <= last, "depth {}, items [{}, {})", depth, first, last);
    thread_ = std::jthread([this, first](std::stop_token stop) { run(stop, first); });
  }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// The next item in order; blocks until it is there. Rethrows what produce threw, at the item for which it threw, and
  /// also at every later call. At most last - first calls.
  T next() {
    std::unique_lock lock(mutex_);
    VIXEN_CHECK(next_ < last_, "no item is left");
    changed_.wait(lock, [this] { return !ready_.empty() || error_; });
    if (ready_.empty()) std::rethrow_exception(error_);
    T item = std::move(ready_.front());
    ready_.pop_front();
    ++next_;
    lock.unlock();
    changed_.notify_all();
    return item;
  }

 private:
  void run(std::stop_token stop, int64_t index) {
    keep_to_one_thread();
    for (; index < last_; ++index) {
      {
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop, [this] { return ready_.size() < depth_; }) || stop.stop_requested()) return;
      }
      try {
        T item = produce_(index);
        const std::lock_guard lock(mutex_);
        ready_.push_back(std::move(item));
      } catch (...) {
        const std::lock_guard lock(mutex_);
        error_ = std::current_exception();
      }
      changed_.notify_all();
      if (error_) return;  // only this thread writes it
    }
  }

  std::function<T(int64_t)> produce_;
  int64_t next_;  // index of the item that next() gives
  const int64_t last_;
  const size_t depth_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<T> ready_;
  std::exception_ptr error_;
  std::jthread thread_;  // last: stopped and joined before the members it uses go
};

}  // namespace vixen
