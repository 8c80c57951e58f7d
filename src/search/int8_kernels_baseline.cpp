// Products of bytes in plain loops: for any processor, and what the other variants are held to.
#include "search/int8_kernels_body.hpp"

namespace vixen {
namespace {

constexpr int64_t kStripRows = 4, kPanelRows = 4;
constexpr CodeLimits kQueryLimits = {127, kUnbounded}, kLabelLimits = {127, kUnbounded};

void place_query(const int8_t* codes, int64_t padded_width, int64_t row, uint8_t* strip) {
  for (int64_t i = 0; i < padded_width; ++i)
    strip[row * padded_width + i] = static_cast<uint8_t>(codes[i] + kQueryLimits.largest);
}

void place_label(const int8_t* codes, int64_t padded_width, int64_t row, int8_t* panel) {
  for (int64_t i = 0; i < padded_width; ++i) panel[row * padded_width + i] = codes[i];
}

int32_t plain_sum(const uint8_t* query, const int8_t* label, int64_t padded_width) {
  int32_t sum = 0;
  for (int64_t i = 0; i < padded_width; ++i) {
    const int16_t a = query[i];  // 16 bits: what compilers have instructions for
    const int16_t b = label[i];  // NOLINT(bugprone-signed-char-misuse): a number
    sum += a * b;
  }
  return sum;
}

void plain_product(const uint8_t* strip, const StripFactors& queries, const int8_t* panels, const LabelFactors& labels,
                   int64_t n_panels, int64_t padded_width, float* upper, int64_t stride) {
  for (int64_t column = 0; column < n_panels * kPanelRows; ++column) {
    const int8_t* label = panels + column * padded_width;
    for (int64_t i = 0; i < kStripRows; ++i) {
      const int32_t sum = plain_sum(strip + i * padded_width, label, padded_width) - labels.offset[column];
      const float bound = queries.norm_weight[i] * labels.norm[column] +
                          (queries.residual_weight[i] * labels.residual[column] + kInt8Tiny);
      upper[i * stride + column] = static_cast<float>(sum) * labels.scale[column] * queries.scale[i] + bound;
    }
  }
}

}  // namespace

extern const Int8Kernels kInt8Baseline;
const Int8Kernels kInt8Baseline = {
    .level = CpuLevel::kBaseline,
    .strip_rows = kStripRows,
    .panel_rows = kPanelRows,
    .query_limits = kQueryLimits,
    .label_limits = kLabelLimits,
    .code = code_row,
    .pack_query = place_query,
    .pack_label = place_label,
    .product = plain_product,
};

}  // namespace vixen
