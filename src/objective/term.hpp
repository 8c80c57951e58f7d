// A term of an objective: a loss of rows that ask, each against all columns of the other side. A term knows scores and
// nothing of how they came about, so that the whole batch, a block of its rows and a rank's share of them are the same
// arithmetic (docs/algorithm.md section 4).
//   R rows of a block, C columns; the rows are queries against label columns, or label columns against queries
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

namespace vixen {

/// The sides of a batch.
enum class Side {
  kQueries,  ///< the B queries
  kColumns,  ///< the M label columns
};

/// What of a side is known to all ranks.
struct SideShape {
  int64_t rows = 0;  // of the whole batch: B or M
  /// Whether there are rows without a relevant column: label columns beyond those that the queries drew.
  bool has_gaps = false;
};

inline SideShape side_shape(Side side, int64_t b, int64_t m) {
  return side == Side::kQueries ? SideShape{b, false} : SideShape{m, m > b};
}

/// Rows of one side with their scores against all of the other.
struct RowBlock {
  SideShape side;
  at::Tensor s;      // [R, C] by label embeddings; undefined where no term of the side reads it
  at::Tensor f;      // [R, C] by prototypes; likewise
  at::Tensor mask;   // bool [R, C]: relevant
  at::Tensor pairs;  // int64 [2, P]: (row of the block, column) of every relevant pair; undefined for label columns
};

/// Sums over terms of d loss / d scores, [R, C] with any strides; of a matrix that no term reads undefined.
struct ScoreGradients {
  at::Tensor s, f;
};

/// weight x value; with weight 1 nothing is multiplied.
inline at::Tensor weighted(const at::Tensor& value, double weight) {
  return weight == 1 ? value : weight * value;
}

/// What a term found in a block of rows. Means are over the whole batch, so that gradients may wait for sums over all
/// its blocks: what is kept for them is O(R K), not the scores. All of it is float32 (float64 in tests) on the device
/// of the scores, and makes no host sync.
class TermRows {
 public:
  virtual ~TermRows() = default;

  /// [n]: what the block adds to the sums over all rows; n is the same for all blocks of a batch.
  virtual at::Tensor sums() const = 0;
  /// Whether add_gradients() reads totals, the sums over all rows: where not, they may be undefined, and more than O(R
  /// K) may be kept, for gradients are taken at once.
  virtual bool needs_totals() const = 0;
  /// Adds weight x d term / d scores of the block's rows to `sums`, a few entries of a row where that is all.
  virtual void add_gradients(const at::Tensor& totals, double weight, const ScoreGradients& sums) const = 0;
};

struct TermSpec {
  static constexpr int kOwnColumn = -1;

  const char* name;            // its key in metrics.jsonl
  Side asks = Side::kQueries;  // whose rows they are
  int draw = kOwnColumn;       // the objective's draw that names each row's positive; kOwnColumn: row i's is i
  bool reads_s = true, reads_f = false;
  double weight = 1;
  // What it costs: [R, C] float32 that look() and that add_gradients() make at once; element-wise passes over such, by
  // references and by kernels of devices; bytes a row that wait for the sums.
  int64_t matrices = 0, gradients = 0, passes = 0, fused_passes = 0, kept_bytes = 0;
  int64_t sums = 1, gap_sums = 0;  // how many TermRows::sums() are; more of them where the side has gaps

  int64_t n_sums(const SideShape& side) const { return sums + (side.has_gaps ? gap_sums : 0); }
};

class Term {
 public:
  explicit Term(const TermSpec& spec) : spec_(spec) {}
  virtual ~Term() = default;

  const TermSpec& spec() const { return spec_; }
  /// positive int64 [R]: the column that is drawn for each row; -1: none, where the side
  /// has gaps. R may be 0.
  virtual std::unique_ptr<TermRows> look(const RowBlock& block, const at::Tensor& positive) const = 0;
  /// Scalar: the term of the whole batch from the sums over all its rows, without its weight.
  virtual at::Tensor value(const at::Tensor& totals, const SideShape& side) const = 0;

 private:
  TermSpec spec_;
};

}  // namespace vixen
