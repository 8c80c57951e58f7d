// Hands items, one by one in order, to a thread that works ahead: the other way round than a Prefetcher gives them
// back.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace vixen {

/// Thread-safe; one giver, one taker. Its destruction is the giver's affair: close() first, and the taker gone.
template <typename T>
class Handover {
 public:
  void give(T item) {
    {
      const std::lock_guard lock(mutex_);
      items_.push_back(std::move(item));
    }
    changed_.notify_one();
  }
  /// The next item; waits for it. std::runtime_error once nothing more will be given.
  T take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !items_.empty() || closed_; });
    if (items_.empty()) throw std::runtime_error("nothing more is handed over");
    T item = std::move(items_.front());
    items_.pop_front();
    return item;
  }
  /// Nothing more will be given: a taker that waits is let go.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> items_;
  bool closed_ = false;
};

/// Closes a handover when it goes out of scope.
template <typename T>
class HandoverCloser {
 public:
  explicit HandoverCloser(Handover<T>& handover) : handover_(handover) {}
  ~HandoverCloser() { handover_.close(); }
  HandoverCloser(const HandoverCloser&) = delete;
  HandoverCloser& operator=(const HandoverCloser&) = delete;

 private:
  Handover<T>& handover_;
};

}  // namespace vixen
