// Arithmetic of balanced 2-means whose results do not depend on the order of operations.
//
// Unit rows and differences of centroids are rounded to multiples of 2^-24. Products of two such numbers are multiples
// of 2^-48, and their sums stay below 2^5 (Cauchy-Schwarz), so every partial sum of a dot product fits a double's 53
// bits: it is exact, in any order, on any machine, with or without fused multiply-add. Sums of fewer than 2^28 rows are
// exact for the same reason. What cannot be exact (norms) is summed by halving, a fixed tree that ATen can render too.
//
// Letters: m rows of a node, D width.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace vixen::two_means {

/// Sums of this many rows and more might be rounded.
inline constexpr int64_t kMaxRows = int64_t{1} << 28;

/// The nearest multiple of 2^-24 (ties to even), for |value| < 2^27.
inline double round_to_grid(double value) {
  constexpr double kShift = 0x1.8p28;  // one unit in its last place is 2^-24
  return (value + kShift) - kShift;
}

/// rows [n, D] float32 or float16, any norm -> float32 unit rows on the grid; zero rows stay zero. CPU loops; on a
/// device unit_rows (cluster/device_kernels.hpp), with the same bits. `out` contiguous float32 [n, D], which may be
/// `rows` itself, takes them and is returned; undefined: a new tensor.
at::Tensor unit_rows_cpu(const at::Tensor& rows, at::Tensor out = {});
/// How many rows [n, D] hold a NaN.
int64_t count_not_finite(const at::Tensor& rows);

/// x . difference, exactly.
double exact_dot(const float* row, const double* difference, int64_t width);
/// sum += sign * row, exactly.
void add_row(double* sum, const float* row, double sign, int64_t width);

/// The norm of a sum of rows, by the halving tree. scratch: grows as needed.
double tree_norm(const double* sum, int64_t width, std::vector<double>& scratch);

/// From the sums of both halves: difference = round(c2 - c1), c the normalised means (0 for a sum of 0). Returns the
/// sum over all rows of the similarity to the own centroid, |s1| + |s2|.
double centroid_difference(const double* first_sum, const double* second_sum, double* difference, int64_t width,
                           std::vector<double>& scratch);

/// The two seed rows of a node of m >= 2 rows: distinct places in 0..m-1. heap_node: 1 at the root, children 2h, 2h+1.
std::pair<int64_t, int64_t> seed_places(uint64_t seed, uint64_t epoch, uint64_t heap_node, int64_t m);

/// Sorts by score, then by place: the order of (score, place) as one integer. place < 2^32.
uint64_t sort_key(float score, int64_t place);

/// The first ceil(m/2) rows in the order (score, place) get side 0, the others 1. keys: scratch.
void split_in_half(const float* scores, int64_t m, uint8_t* side, std::vector<uint64_t>& keys);

}  // namespace vixen::two_means
