// The candidates of one query: every label that can still be among its k best, in bounded memory.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "search/scaled_rows.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {

/// What the scores of labels may be wrong by for a query, label by label: residual_weight * residual[i] +
/// norm_weight * norm[i] + kInt8Tiny (search/int8_bound.hpp).
struct LabelErrors {
  float residual_weight, norm_weight;
  const float* residual;  // of the first label of a scan, and those behind it
  const float* norm;
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
            const RowReader& rows);
  void scan(const uint16_t* scores, int64_t n, int64_t first_label, float absolute, float relative, const float* query,
            const RowReader& rows);

  /// The same for scores to which their error was added: the canonical score is at most upper[i].
  void scan_upper(const float* upper, int64_t n, int64_t first_label, const LabelErrors& errors, const float* query,
                  const RowReader& rows);

  /// The k best in the total order, ids shifted by first_id; padded with -1 and -infinity.
  void finish(const float* query, const RowReader& rows, int64_t first_id, int64_t* ids, float* scores);

  /// A lower bound of the k-th best canonical score; -infinity until k candidates are known.
  float threshold() const { return threshold_; }

  /// Bytes that an object for k candidates holds.
  static int64_t bytes(int64_t k);

 private:
  /// Scans with `kernel`. needed(threshold): what a score must reach for its label to stay; bounds(score, label, i):
  /// puts the lower and upper bound of the canonical score of label first_label + label into place i.
  template <typename Score, typename Kernel, typename Needed, typename Bounds>
  void scan_with(Kernel kernel, const Score* scores, int64_t n, int64_t first_label, const float* query,
                 const RowReader& rows, Needed needed, Bounds bounds);
  template <typename Score, typename Kernel>
  void scan_rounded(Kernel kernel, const Score* scores, int64_t n, int64_t first_label, float absolute, float relative,
                    const float* query, const RowReader& rows);
  void compact(const float* query, const RowReader& rows);
  void compact_exactly(const float* query, const RowReader& rows);

  int64_t k_;
  int64_t room_;
  int64_t count_ = 0;
  int64_t n_exact_ = 0;  // the first n_exact_ candidates have canonical scores: lower == upper
  float threshold_ = -std::numeric_limits<float>::infinity();
  std::vector<float> lower_, upper_;  // [room]; upper_ takes the raw scores while scanning
  std::vector<int32_t> label_;        // [room]
};

}  // namespace vixen
