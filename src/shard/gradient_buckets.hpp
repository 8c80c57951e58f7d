// Which ranges of the flat gradients set out together: plain values, the same on every rank.
//   E elements of the flat gradients
#pragma once

#include <cstdint>
#include <optional>

#include "shard/row_shards.hpp"

namespace vixen {

/// Ranges that become ready one after another come together in a bucket, as long as they lie side by side, until it is
/// full enough to set out.
class GradientBuckets {
 public:
  /// Parameters begin on cache lines; what lies between two is zero on every rank, and stays so: ranges that are less
  /// than this apart lie side by side.
  static constexpr int64_t kGap = 64;

  /// full_mb: a bucket with so many bytes of float32 gradients sets out; 1e6 bytes.
  explicit GradientBuckets(double full_mb) : full_(static_cast<int64_t>(full_mb * 1e6 / 4)) {}

  /// The elements of `range`, of [0, E), are ready; `send(RowRange)` is called with each bucket that sets out now: what
  /// waited elsewhere, then what is full.
  template <typename Send>
  void add(const RowRange& range, const Send& send) {
    if (range.size() <= 0) return;
    if (waiting_ && !beside(range)) flush(send);
    if (waiting_) {
      waiting_->begin = range.begin < waiting_->begin ? range.begin : waiting_->begin;
      waiting_->end = range.end > waiting_->end ? range.end : waiting_->end;
    } else {
      waiting_ = range;
    }
    if (waiting_->size() >= full_) flush(send);
  }

  /// Nothing more becomes ready: what waits sets out.
  template <typename Send>
  void flush(const Send& send) {
    if (!waiting_) return;
    const RowRange bucket = *waiting_;
    waiting_.reset();
    send(bucket);
  }

 private:
  bool beside(const RowRange& range) const {
    const bool before = range.end <= waiting_->begin && waiting_->begin - range.end < kGap;
    const bool behind = waiting_->end <= range.begin && range.begin - waiting_->end < kGap;
    return before || behind;
  }

  int64_t full_;
  std::optional<RowRange> waiting_;
};

}  // namespace vixen
