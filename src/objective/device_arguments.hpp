// The arguments of the objective's kernels for devices: raw pointers and shapes.
//   R rows of scores, C columns, K negatives of a row. All tensors but the target of AddEntriesArgs are contiguous, and
//   in the device's memory. No ATen here: nvcc reads this file.
#pragma once

#include <cstdint>

namespace vixen {

/// What a relevant column scores: below any similarity, far from overflow.
constexpr double kMasked = -1e30;

/// Most negatives of a row that the kernels have room for.
constexpr int64_t kMostNegatives = 256;

/// The K columns of the highest scores of each row; of equal ones the lower column. Relevant columns score kMasked.
struct HardestArgs {
  int64_t width;        // C
  int64_t k;            // K <= C, kMostNegatives
  float masked;         // kMasked
  const float* scores;  // [R, C]
  const bool* mask;     // [R, C]: relevant
  int64_t* columns;     // [R, K]
  bool* valid;          // [R, K]: not relevant
};

/// Margin losses of rows over those (docs/algorithm.md section 4, steps 1-5).
struct RowLossArgs {
  HardestArgs hardest;                             // valid: null
  const int64_t* positive;                         // [R]; below 0: none, the row does not count
  float margin_min, margin_max, temperature, tie;  // tie: slope of the hinge at 0
  float* slopes;                                   // [R, K]: of the sum over rows, at the negatives
  float* positive_slope;                           // [R]
  float* values;                                   // [R]
};

/// target[r, columns[r, j]] += values[r, j]; the columns of a row differ.
struct AddEntriesArgs {
  int64_t k;                          // entries of a row
  int64_t row_stride, column_stride;  // of target
  const int64_t* columns;             // [R, k]
  const float* values;                // [R, k]
  float* target;
};

}  // namespace vixen
