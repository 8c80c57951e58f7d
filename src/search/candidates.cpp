#include "search/candidates.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/check.hpp"
#include "search/int8_kernels.hpp"

namespace vixen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kPrefetch = 4;  // candidates whose rows are asked for ahead
constexpr int64_t kSlack = 512;  // candidates gathered between two compactions, at the least

int64_t room_for(int64_t k) {
  return k + std::max(k, kSlack) + kScanChunk;
}

/// The largest bfloat16 number that is not above x: a score whose rounding lies below it lies below x.
float round_down_to_bfloat16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  uint32_t cut = bits & 0xFFFF0000u;                    // towards zero
  if (x < 0 && (bits & 0xFFFFu) != 0) cut += 0x10000u;  // away from zero
  return std::bit_cast<float>(cut);
}

struct Scored {
  float score;
  int32_t label;
  /// The total order: higher scores first, then lower ids.
  bool operator<(const Scored& other) const { return score != other.score ? score > other.score : label < other.label; }
};

}  // namespace

Candidates::Candidates(int64_t k) : k_(k), room_(room_for(k)) {
  lower_.resize(static_cast<size_t>(room_));
  upper_.resize(static_cast<size_t>(room_));
  label_.resize(static_cast<size_t>(room_));
}

int64_t Candidates::bytes(int64_t k) {
  return room_for(k) * static_cast<int64_t>(2 * sizeof(float) + sizeof(int32_t));
}

void Candidates::reset() {
  count_ = 0;
  n_exact_ = 0;
  threshold_ = -kInfinity;
}

template <typename Score, typename Kernel, typename Needed, typename Bounds>
void Candidates::scan_with(Kernel kernel, const Score* scores, int64_t n, int64_t first_label, const float* query,
                           const RowReader& rows, Needed needed, Bounds bounds) {
  ScanState state{0, count_};
  while (true) {
    const int64_t before = state.count;
    kernel(scores, n, threshold_ > -kInfinity ? needed(threshold_) : threshold_, upper_.data(), label_.data(), room_,
           &state);
    for (auto i = static_cast<size_t>(before); i < static_cast<size_t>(state.count); ++i) {
      bounds(upper_[i], label_[i], i);
      label_[i] += static_cast<int32_t>(first_label);
    }
    count_ = state.count;
    if (state.position >= n) return;
    compact(query, rows);
    state.count = count_;
  }
}

template <typename Score, typename Kernel>
void Candidates::scan_rounded(Kernel kernel, const Score* scores, int64_t n, int64_t first_label, float absolute,
                              float relative, const float* query, const RowReader& rows) {
  // What a score must reach for its label's upper bound to reach the threshold.
  const auto needed = [&](float threshold) {
    const float least = threshold - absolute - std::abs(threshold) * 0x1p-21F - absolute * 0x1p-21F;
    return sizeof(Score) == 2 ? round_down_to_bfloat16(least) : least;
  };
  scan_with(kernel, scores, n, first_label, query, rows, needed, [&](float score, int32_t /*label*/, size_t i) {
    const float error = absolute + std::abs(score) * relative;
    lower_[i] = score - error;
    upper_[i] = score + error;
  });
}

void Candidates::scan(const float* scores, int64_t n, int64_t first_label, float absolute, float relative,
                      const float* query, const RowReader& rows) {
  scan_rounded(scan_kernels().scan_float, scores, n, first_label, absolute, relative, query, rows);
}

void Candidates::scan(const uint16_t* scores, int64_t n, int64_t first_label, float absolute, float relative,
                      const float* query, const RowReader& rows) {
  scan_rounded(scan_kernels().scan_bfloat16, scores, n, first_label, absolute, relative, query, rows);
}

void Candidates::scan_upper(const float* upper, int64_t n, int64_t first_label, const LabelErrors& errors,
                            const float* query, const RowReader& rows) {
  const auto same = [](float threshold) { return threshold; };
  scan_with(
      scan_kernels().scan_float, upper, n, first_label, query, rows, same, [&](float score, int32_t label, size_t i) {
        const float error =
            errors.norm_weight * errors.norm[label] + (errors.residual_weight * errors.residual[label] + kInt8Tiny);
        // The error once downwards from the score, which lies an error below `upper`; and roundings of these lines.
        lower_[i] = score - 2 * error * (1 + 0x1p-20F) - std::abs(score) * 0x1p-21F;
        upper_[i] = score;
      });
}

void Candidates::compact(const float* query, const RowReader& rows) {
  if (count_ < k_) return;
  if (n_exact_ == 0) {
    static thread_local std::vector<float> scratch;
    scratch.assign(lower_.begin(), lower_.begin() + count_);
    std::nth_element(scratch.begin(), scratch.begin() + (k_ - 1), scratch.end(), std::greater<>());
    threshold_ = std::max(threshold_, scratch[static_cast<size_t>(k_ - 1)]);
    size_t kept = 0;
    for (size_t i = 0; i < static_cast<size_t>(count_); ++i) {
      lower_[kept] = lower_[i];
      upper_[kept] = upper_[i];
      label_[kept] = label_[i];
      kept += upper_[i] >= threshold_ ? 1 : 0;
    }
    count_ = static_cast<int64_t>(kept);
    // Half of the slack must be free again, or scans would stop at every step.
    if (count_ <= k_ + (room_ - k_) / 2) return;
  }
  compact_exactly(query, rows);
}

void Candidates::compact_exactly(const float* query, const RowReader& rows) {
  const auto dot = scan_kernels().dot;
  static thread_local std::vector<Scored> scored;
  static thread_local std::vector<float> scratch;
  scored.resize(static_cast<size_t>(count_));
  scratch.resize(static_cast<size_t>(rows.width()));
  for (size_t i = 0; i < scored.size(); ++i) {
    if (i + kPrefetch < scored.size()) rows.prefetch(label_[i + kPrefetch]);
    const bool exact = static_cast<int64_t>(i) < n_exact_;
    // Adding zero turns -0 into +0: equal scores must be equal in the order.
    const float score =
        exact ? lower_[i] : static_cast<float>(dot(query, rows.row(label_[i], scratch.data()), rows.width())) + 0.0F;
    scored[i] = {score, label_[i]};
  }
  const auto kept = std::min(scored.size(), static_cast<size_t>(k_));
  std::nth_element(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(kept) - 1, scored.end());
  if (kept == static_cast<size_t>(k_)) threshold_ = scored[kept - 1].score;
  for (size_t i = 0; i < kept; ++i) {
    lower_[i] = upper_[i] = scored[i].score;
    label_[i] = scored[i].label;
  }
  count_ = n_exact_ = static_cast<int64_t>(kept);
}

void Candidates::finish(const float* query, const RowReader& rows, int64_t first_id, int64_t* ids, float* scores) {
  compact(query, rows);  // drops what the bounds alone can drop
  int64_t found = 0;
  if (count_ > 0) {
    compact_exactly(query, rows);
    static thread_local std::vector<Scored> scored;
    scored.resize(static_cast<size_t>(count_));
    for (size_t i = 0; i < scored.size(); ++i) scored[i] = {lower_[i], label_[i]};
    std::sort(scored.begin(), scored.end());
    for (; found < count_; ++found) {
      ids[found] = first_id + scored[static_cast<size_t>(found)].label;
      scores[found] = scored[static_cast<size_t>(found)].score;
    }
  }
  std::fill(ids + found, ids + k_, int64_t{-1});
  std::fill(scores + found, scores + k_, -kInfinity);
}

}  // namespace vixen
