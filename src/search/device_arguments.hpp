// The arguments of the search's kernels for devices: raw pointers and shapes.
//   m queries of a block, n labels of the shard, D columns, c labels of a tile. Tensors are contiguous but for the
//   scores, and in the device's memory. No ATen here: nvcc reads this file.
#pragma once

#include <cstdint>

namespace vixen {

/// Labels whose bounds are also kept as one, the largest: tiles begin and end at multiples of it.
constexpr int64_t kGroupLabels = 256;

/// Storage of the rows that canonical scores read.
enum class RowStorage { kFloat32, kFloat16, kBfloat16 };

/// Label i is rows[i - first], widened to float32; with divisors divided in float64 and rounded to float32.
struct DeviceRows {
  RowStorage storage;
  int64_t width;  // D
  int64_t first;
  const void* rows;        // [.., D]
  const double* divisors;  // or null
};

/// Every label that can still be among the k best of a query, and some more. The canonical score of candidate j lies
/// within lower[j] .. upper[j]; the first exact[i] of query i carry it: lower == upper.
struct CandidateArgs {
  int64_t k, capacity;
  int32_t* label;        // [m, capacity]: row of the shard
  float* lower;          // [m, capacity]
  float* upper;          // [m, capacity]
  int32_t* count;        // [m]
  int32_t* exact;        // [m]
  float* threshold;      // [m]: a lower bound of the k-th best canonical score; -infinity until k candidates are known
  const float* queries;  // [m, D]
  DeviceRows rows;       // of all candidates but the exact ones
};

/// What a product of rounded rows may be off by: weights.norm * norm + (weights.residual * residual + weights.constant)
/// for the bounds of a label (search/error_bound.hpp).
struct BoundWeights {
  float norm, residual, constant;
};
struct alignas(8) LabelBound {
  float norm, residual;
};

struct FilterArgs {
  CandidateArgs candidates;
  int64_t limit;                   // a query with more candidates is compacted first, to `limit` at most
  int64_t first_label, columns;    // of the tile: first_label is a multiple of kGroupLabels
  int64_t stride;                  // of a row of scores, a multiple of 8; rows begin at multiples of 16 bytes
  const void* scores;              // bfloat16 [m, stride], the first `columns` of each
  const BoundWeights* weights;     // [m]
  const LabelBound* bounds;        // [n]
  const LabelBound* group_bounds;  // [ceil(n / kGroupLabels)]: the largest norm and the largest residual of a group
  float relative;                  // rounding of a score, relative to it
};

/// out[i] = a[i] . b[i]
struct CanonicalDotArgs {
  int64_t width;
  const float* a;  // [m, D]
  const float* b;  // [m, D]
  float* out;      // [m]
};

}  // namespace vixen
