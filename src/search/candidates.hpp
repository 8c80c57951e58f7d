// The candidates of one query: every label that can still be among its k best, in bounded memory.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "search/scan_kernels.hpp"

namespace vixen {

/// What is needed to score a candidate exactly.
struct ExactRows {
  const float* labels = nullptr;  // [n, D]
  int64_t width = 0;              // D
};

/// Labels arrive in ascending order of their rows, block by block, with inexact scores. A candidate is kept as long as
/// the upper bound of its canonical score reaches `threshold()`, the k-th largest lower bound so far; so nothing that
/// belongs to the answer is ever dropped. Where bounds cannot tell candidates apart (many equal labels), the canonical
/// scores are computed and exactly k are kept. Not thread-safe.
class Candidates {
 public:
  explicit Candidates(int64_t k);

  void reset();

  /// Scans a row of scores of the labels first_label, first_label + 1, ... (float, or bfloat16 bits). absolute and
  /// relative: the error of each score (search/error_bound.hpp).
  void scan(const float* scores, int64_t n, int64_t first_label, float absolute, float relative, const float* query,
            const ExactRows& rows);
  void scan(const uint16_t* scores, int64_t n, int64_t first_label, float absolute, float relative, const float* query,
            const ExactRows& rows);

  /// The k best in the total order, ids shifted by first_id; padded with -1 and -infinity.
  void finish(const float* query, const ExactRows& rows, int64_t first_id, int64_t* ids, float* scores);

  /// A lower bound of the k-th best canonical score; -infinity until k candidates are known.
  float threshold() const { return threshold_; }

  /// Bytes that an object for k candidates holds.
  static int64_t bytes(int64_t k);

 private:
  template <typename Score, typename Kernel>
  void scan_with(Kernel kernel, const Score* scores, int64_t n, int64_t first_label, float absolute, float relative,
                 const float* query, const ExactRows& rows);
  void compact(const float* query, const ExactRows& rows);
  void compact_exactly(const float* query, const ExactRows& rows);

  int64_t k_;
  int64_t room_;
  int64_t count_ = 0;
  int64_t n_exact_ = 0;  // the first n_exact_ candidates have canonical scores: lower == upper
  float threshold_ = -std::numeric_limits<float>::infinity();
  std::vector<float> lower_, upper_;  // [room]; upper_ takes the raw scores while scanning
  std::vector<int32_t> label_;        // [room]
};

}  // namespace vixen
