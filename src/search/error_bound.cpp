#include "search/error_bound.hpp"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <algorithm>
#include <cmath>

#include "base/check.hpp"

namespace vixen {
namespace {

constexpr double kLargestNorm = 1e18;
constexpr int64_t kChunkRows = 4096;  // bounds the memory of the differences

bool reduces_in_bfloat16() {
  return at::globalContext().allowBF16ReductionCuBLAS() == at::CuBLASReductionOption::AllowReducedPrecisionWithSplitK;
}

std::vector<double> norms(const at::Tensor& rows) {
  const at::Tensor values = at::linalg_vector_norm(rows, 2, at::IntArrayRef{1}, false, at::kDouble).cpu().contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

}  // namespace

RowBounds row_bounds(const at::Tensor& rows, const at::Tensor& rounded, const std::string& what, int64_t first_row) {
  RowBounds bounds;
  const int64_t n = rows.size(0);
  bounds.norm.reserve(static_cast<size_t>(n));
  const bool is_rounded = !rounded.is_same(rows);
  if (!is_rounded) bounds.residual.assign(static_cast<size_t>(n), 0.0);
  for (int64_t begin = 0; begin < n; begin += kChunkRows) {
    const int64_t size = std::min(kChunkRows, n - begin);
    const at::Tensor chunk = rows.narrow(0, begin, size);
    const auto chunk_norms = norms(chunk);
    for (size_t i = 0; i < chunk_norms.size(); ++i) {
      if (chunk_norms[i] <= kLargestNorm) continue;  // false for NaN
      const int64_t row = first_row + begin + static_cast<int64_t>(i);
      if (std::isfinite(chunk_norms[i])) {
        fail_user("{} row {} has the norm {:.3g}; expected at most {:.0e}", what, row, chunk_norms[i], kLargestNorm);
      }
      fail_user("{} row {} holds a NaN or an infinity; expected finite numbers", what, row);
    }
    bounds.norm.insert(bounds.norm.end(), chunk_norms.begin(), chunk_norms.end());
    if (is_rounded) {
      // Exact in float32: a number minus its rounding to fewer digits.
      const auto residual = norms(chunk - rounded.narrow(0, begin, size).to(at::kFloat));
      bounds.residual.insert(bounds.residual.end(), residual.begin(), residual.end());
    }
  }
  return bounds;
}

BlockBound block_bound(const RowBounds& rows, int64_t begin, int64_t end) {
  BlockBound bound;
  for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
    bound.norm = std::max(bound.norm, rows.norm[i]);
    bound.residual = std::max(bound.residual, rows.residual[i]);
  }
  return bound;
}

ErrorModel::ErrorModel(int64_t d, bool bfloat16, at::Device device) {
  VIXEN_CHECK(device.is_cpu() || bfloat16, "float32 products on {}", device.str());
  // Else partial sums of a product that is divided would be rounded to bfloat16.
  VIXEN_CHECK(!device.is_cuda() || !reduces_in_bfloat16(), "sums of reduced precision are on");
  // float32 sums: (d + 8) roundings of 2^-24; twice that on a GPU, whose units may truncate.
  const double unit = device.is_cpu() ? 0x1p-24 : 0x1p-23;
  const double terms = static_cast<double>(d + 8) * unit;
  VIXEN_CHECK(terms < 0.5, "rows of width {}", d);
  gamma_ = terms / (1 - terms);
  // TF32 keeps 10 bits, "medium" precision 7: take the coarser one whenever anything but full float32 is allowed.
  const bool reduced = !bfloat16 && at::globalContext().float32MatmulPrecision() != at::Float32MatmulPrecision::HIGHEST;
  inputs_ = reduced ? 0x1p-7 : 0.0;
  tiny_ = static_cast<double>(d + 1) * 0x1p-120;
  relative_ = bfloat16 ? 0x1.04p-8F : 0x1p-22F;
}

ErrorWeights ErrorModel::weights(double query_norm, double query_residual) const {
  const double rounded_query = query_norm + query_residual, upwards = 1 + 1e-5;
  const double any = (gamma_ + 2.5 * inputs_) * rounded_query + tiny_ * (1 + rounded_query);
  return {static_cast<float>((query_residual + any + 0x1p-23 * query_norm) * upwards),
          static_cast<float>((rounded_query + any) * upwards),
          static_cast<float>(tiny_ * (1 + rounded_query) * upwards)};
}

float ErrorModel::absolute(double query_norm, double query_residual, const BlockBound& labels) const {
  const double rounded_query = query_norm + query_residual;
  const double rounded_label = labels.norm + labels.residual;
  double bound = query_residual * labels.norm + rounded_query * labels.residual;
  bound += (gamma_ + 2.5 * inputs_) * rounded_query * rounded_label;
  bound += 0x1p-23 * query_norm * labels.norm;
  bound += tiny_ * (1 + rounded_query) * (1 + rounded_label);
  return static_cast<float>(bound * (1 + 1e-5));
}

}  // namespace vixen
