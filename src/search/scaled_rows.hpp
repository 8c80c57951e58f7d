// Rows as they lie in memory, float32 or float16, and what each is divided by where it is used.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vixen {

/// [n, D] numbers: values[i] / divisors[i], divided in float64 and rounded to float32; without divisors the values. So
/// rows of unit length need no more memory than the file's float16.
struct ScaledRows {
  ScaledRows() = default;
  /// values: of a float type; kept, not copied, when float32 or float16 and contiguous. divisors, of float16 values on
  /// the CPU: float64 [n], not zero, there; or undefined.
  ScaledRows(const at::Tensor& values, at::Tensor divisors = {});  // NOLINT: a tensor is rows without divisors

  int64_t size() const { return values.size(0); }
  int64_t width() const { return values.size(1); }
  int64_t bytes() const;
  /// Rows [begin, begin + n) as float32 [n, D]; a view where nothing is to be computed.
  at::Tensor wide(int64_t begin, int64_t n) const;
  /// Rows rows[0], rows[1], ... (int64 [m], where the values are) as float32 [m, D].
  at::Tensor pick(const at::Tensor& rows) const;

  at::Tensor values;    // float32 or float16 [n, D], contiguous
  at::Tensor divisors;  // float64 [n] or undefined
};

/// Reads single rows of ScaledRows on the CPU, without ATen. The rows must outlive it.
class RowReader {
 public:
  explicit RowReader(const ScaledRows& rows);

  int64_t width() const { return width_; }
  /// Row i in float32; scratch [D] may be used for it.
  const float* row(int64_t i, float* scratch) const;
  /// Row i without its division, and the divisor.
  const float* undivided(int64_t i, float* scratch) const;
  double divisor(int64_t i) const { return divisors_ == nullptr ? 1.0 : divisors_[i]; }
  /// Asks the processor for row i, which is read soon.
  void prefetch(int64_t i) const;

 private:
  const float* float32_ = nullptr;
  const uint16_t* float16_ = nullptr;
  const double* divisors_ = nullptr;
  int64_t width_;
};

}  // namespace vixen
