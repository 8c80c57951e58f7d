// A bound on the difference between the prefilter's score and the canonical score: what makes the search exact.
//
// With q^ and l^ the rounded copies that the product reads (q^ = q in float32):
//   |q.l - q^.l^| <= |q - q^| |l| + |q^| |l - l^|                   (Cauchy-Schwarz, norms of the actual residuals)
//   |product - q^.l^| <= gamma_D |q^| |l^|                          (float32 sums in any order, D terms)
//   |canonical - q.l| <= 2^-23 |q| |l|                              (rounding to float32; float64 sums)
// The product's own rounding to bfloat16 is relative to its value and is added where the value is known.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace vixen {

/// Norms of rows and of what rounding took from them. Local.
struct RowBounds {
  std::vector<double> norm;      // |x|
  std::vector<double> residual;  // |x - x^|
};

/// rows [n, D] float32; rounded [n, D]: the copy that the product reads (the same tensor when it is not rounded). A row
/// with a NaN, an infinity or a norm above 1e18 (its products could overflow) is a UserError: "`what` row i ...".
RowBounds row_bounds(const at::Tensor& rows, const at::Tensor& rounded, const std::string& what, int64_t first_row);

/// The largest norm and residual of a block of labels.
struct BlockBound {
  double norm = 0;
  double residual = 0;
};
BlockBound block_bound(const RowBounds& rows, int64_t begin, int64_t end);

/// The bound for one query as a sum over what is known of a label: norm * |l| + (residual * |l - l^| + constant).
struct ErrorWeights {
  float norm, residual, constant;
};

/// The bound for one query and a block of labels; a little above the exact value, so that it survives float32
/// arithmetic. d: width of the rows.
class ErrorModel {
 public:
  /// device: where the product runs; on a CPU products of float32 or bfloat16, elsewhere of bfloat16. Asks ATen whether
  /// the CPU rounds the operands of float32 products.
  ErrorModel(int64_t d, bool bfloat16, at::Device device);

  float absolute(double query_norm, double query_residual, const BlockBound& labels) const;
  /// The same bound, for labels one by one.
  ErrorWeights weights(double query_norm, double query_residual) const;
  /// Rounding of the product's result, relative to its value.
  float relative() const { return relative_; }

 private:
  double gamma_;   // accumulation
  double inputs_;  // rounding of float32 inputs inside the product
  double tiny_;    // denormals that the processor may flush
  float relative_;
};

}  // namespace vixen
