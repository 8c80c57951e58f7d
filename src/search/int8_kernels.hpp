// Products of 8-bit integers for the search's prefilter, compiled for several instruction sets and chosen when the
// program runs: rows in floats to rows in codes, codes laid out for the product, the product itself.
//
// Shapes: D' is the width D rounded up to kInt8Block, columns behind D are zero. A strip is `strip_rows` queries, a
// panel is `panel_rows` labels; rows that are missing are zero.
#pragma once

#include <cstdint>

#include "base/cpu_level.hpp"

namespace vixen {

constexpr int64_t kInt8Block = 64;            // columns are padded to a multiple
constexpr int64_t kInt8LargestWidth = 65536;  // D: a sum of 65,536 products of codes fits 32 bits

/// What the codes of a row may be. A row is cut into groups of 8 columns, i, i + D'/8, ..., i + 7 D'/8 for each i; the
/// kernels that add products in 16 bits add those of one group there, and need its sums bounded.
struct CodeLimits {
  int32_t largest;      // |code| is at most this
  int32_t largest_sum;  // the positive codes of a group add up to at most this, as do the negative ones' magnitudes
};

/// A row x [D] in codes: x' = scale * codes.
struct CodedRow {
  float scale;           // > 0
  float error_squares;   // float32 sum of (x - x')^2
  int32_t code_squares;  // sum of codes^2
  int32_t code_sum;      // sum of codes
};

/// What the product does to the integers of a strip: score = scale * scale of the label * product,
/// bound = residual_weight * residual of the label + norm_weight * norm of the label (search/int8_bound.hpp).
struct StripFactors {
  const float* scale;            // [strip_rows]
  const float* residual_weight;  // [strip_rows]
  const float* norm_weight;      // [strip_rows]
};

/// The labels' part of the same. [panels * panel_rows]
struct LabelFactors {
  float* scale;
  float* residual;
  float* norm;
  int32_t* offset;  // query_limits.largest * code_sum: what makes the queries' codes unsigned adds to a product
};

struct Int8Kernels {
  CpuLevel level;
  int64_t strip_rows, panel_rows;
  CodeLimits query_limits, label_limits;

  /// Codes of a row [D'] within the limits: each is x / scale to the nearest integer, and scale is the smallest that
  /// the limits allow, at least 1e-30. codes: [D'].
  CodedRow (*code)(const float* row, int64_t padded_width, const CodeLimits& limits, int8_t* codes);
  /// Puts codes [D'] into place `row` of a strip, made unsigned by adding query_limits.largest.
  void (*pack_query)(const int8_t* codes, int64_t padded_width, int64_t row, uint8_t* strip);
  /// Puts codes [D'] into place `row` of a panel.
  void (*pack_label)(const int8_t* codes, int64_t padded_width, int64_t row, int8_t* panel);
  /// upper[i * stride + j] = score + bound + kInt8Tiny of query i of the strip and label j of the panels; the integers
  /// are exact, the floats rounded a few times.
  void (*product)(const uint8_t* strip, const StripFactors& queries, const int8_t* panels, const LabelFactors& labels,
                  int64_t n_panels, int64_t padded_width, float* upper, int64_t stride);
};

/// Above what the floats of a product can lose to underflow, flushed to zero or not.
constexpr float kInt8Tiny = 0x1p-118F;

/// The variant for this machine and what the environment allows (cpu_level()).
const Int8Kernels& int8_kernels();

/// All variants up to that level, the best first.
struct Int8Variants {
  const Int8Kernels* const* first;
  int64_t count;
};
Int8Variants int8_variants();

}  // namespace vixen
