// The packed layout of codes and the product over it, for the variants with vectors.
//
// Layout of D' codes in a strip or panel: blocks of 16 codes, each four steps of four codes. Block b holds the groups
// 2b and 2b + 1; step s holds columns 2s and 2s + 1 of the eight of either group, so that a 16-bit lane (two
// neighbouring codes of a step) meets one group only. In a strip the 16 codes of a block and query lie together; in a
// panel the four codes of a step and label do, for all labels of the panel, then those of the next step.
#pragma once

#include "search/int8_kernels_body.hpp"

namespace vixen {
namespace {

/// Four codes of step `step` of block `block`, in memory's order.
inline void store_step(const int8_t* codes, int64_t groups, int64_t block, int64_t step, int8_t add, void* to) {
  const int8_t* first = codes + 2 * step * groups + 2 * block;
  const int8_t* second = first + groups;
  const int8_t four[4] = {static_cast<int8_t>(first[0] + add), static_cast<int8_t>(second[0] + add),
                          static_cast<int8_t>(first[1] + add), static_cast<int8_t>(second[1] + add)};
  __builtin_memcpy(to, four, sizeof(four));
}

template <int64_t kStripRows, int32_t kLargest>
void pack_query(const int8_t* codes, int64_t padded_width, int64_t row, uint8_t* strip) {
  for (int64_t block = 0; block < padded_width / 16; ++block) {
    for (int64_t step = 0; step < 4; ++step) {
      store_step(codes, padded_width / kGroup, block, step, static_cast<int8_t>(kLargest),
                 strip + (block * kStripRows + row) * 16 + step * 4);
    }
  }
}

template <int64_t kPanelRows>
void pack_label(const int8_t* codes, int64_t padded_width, int64_t row, int8_t* panel) {
  for (int64_t block = 0; block < padded_width / 16; ++block) {
    for (int64_t step = 0; step < 4; ++step) {
      store_step(codes, padded_width / kGroup, block, step, 0, panel + ((block * 4 + step) * kPanelRows + row) * 4);
    }
  }
}

/// The codes of a step of a query's block of 16.
inline int32_t four_codes(const uint8_t* query, int64_t step) {
  int32_t four;
  __builtin_memcpy(&four, query + 4 * step, sizeof(four));
  return four;
}

/// The product in vectors of `Simd`, which has kVectors of kWidth labels to the panel, and
///   add_products(sums, query, steps): sums [kWidth] + the products of a block's 16 codes.
template <typename Simd, int64_t kStripRows>
void product(const uint8_t* strip, const StripFactors& queries, const int8_t* panels, const LabelFactors& labels,
             int64_t n_panels, int64_t padded_width, float* upper, int64_t stride) {
  constexpr int64_t kVectors = Simd::kVectors, kWidth = Simd::kWidth, kPanelRows = kVectors * kWidth;
  const int64_t blocks = padded_width / 16;
  for (int64_t panel = 0; panel < n_panels; ++panel) {
    typename Simd::Ints sums[kStripRows][kVectors];
    for (auto& row : sums) {
      for (auto& sum : row) sum = Simd::zero();
    }
    const int8_t* label = panels + panel * kPanelRows * padded_width;
    const uint8_t* query = strip;
    for (int64_t block = 0; block < blocks; ++block) {
      typename Simd::Ints steps[kVectors][4];
#pragma GCC unroll 4
      for (int64_t step = 0; step < 4; ++step) {
#pragma GCC unroll 2
        for (int64_t v = 0; v < kVectors; ++v) {
          steps[v][step] = Simd::load(label);
          label += kWidth * 4;
        }
      }
#pragma GCC unroll 8
      for (int64_t i = 0; i < kStripRows; ++i) {
#pragma GCC unroll 2
        for (int64_t v = 0; v < kVectors; ++v) sums[i][v] = Simd::add_products(sums[i][v], query, steps[v]);
        query += 16;
      }
    }
    for (int64_t v = 0; v < kVectors; ++v) {
      const int64_t column = panel * kPanelRows + v * kWidth;
      const auto scale = Simd::load_floats(labels.scale + column);
      const auto residual = Simd::load_floats(labels.residual + column);
      const auto norm = Simd::load_floats(labels.norm + column);
      const auto offset = Simd::load(labels.offset + column);
      for (int64_t i = 0; i < kStripRows; ++i) {
        const auto score = Simd::to_floats(sums[i][v], offset) * scale * queries.scale[i];
        const auto bound = queries.norm_weight[i] * norm + (queries.residual_weight[i] * residual + kInt8Tiny);
        Simd::store_floats(upper + i * stride + column, score + bound);
      }
    }
  }
}

/// The kernels of vectors `Simd`, as constants: nothing runs before main.
template <typename Simd, int64_t kStripRows, const CodeLimits& kQueryLimits, const CodeLimits& kLabelLimits>
constexpr Int8Kernels simd_kernels(CpuLevel level) {
  constexpr int64_t kPanelRows = Simd::kVectors * Simd::kWidth;
  return {.level = level,
          .strip_rows = kStripRows,
          .panel_rows = kPanelRows,
          .query_limits = kQueryLimits,
          .label_limits = kLabelLimits,
          .code = code_row,
          .pack_query = pack_query<kStripRows, kQueryLimits.largest>,
          .pack_label = pack_label<kPanelRows>,
          .product = product<Simd, kStripRows>};
}

}  // namespace
}  // namespace vixen
