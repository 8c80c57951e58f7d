// The arguments of 2-means' kernels for devices: raw pointers and shapes.
//   D columns; m rows of a list. Tensors are contiguous, and in the device's memory. No ATen here: nvcc reads this
//   file.
#pragma once

#include <cstdint>

namespace vixen {

/// unit[i] = round(rows[i] / |rows[i]|) on the grid of two_means_arithmetic.hpp; a zero row stays zero.
struct UnitRowsArgs {
  bool half;  // rows are float16, else float32
  int64_t width;
  const void* rows;  // [n, D]
  float* unit;       // [n, D]; may be `rows`
};

/// scores[i] = x[rows[i]] . differences[slots[i]], exact, then rounded.
struct RowScoresArgs {
  int64_t width;
  const float* x;             // [n, D] on the grid
  const int64_t* rows;        // [m]
  const int64_t* slots;       // [m]
  const double* differences;  // [slots, D] on the grid
  float* scores;              // [m]
};

/// sums[p] = sum of signs[i] x[rows[i]] over starts[p] <= i < starts[p + 1], exact.
struct RowSumsArgs {
  int64_t width;
  const float* x;         // [n, D] on the grid
  const int64_t* rows;    // [m]
  const double* signs;    // [m]: 1 or -1
  const int64_t* starts;  // [pieces + 1]
  double* sums;           // [pieces, D]
};

}  // namespace vixen
