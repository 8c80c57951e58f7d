// Rows as they lie in memory, in float32 or 16 bits, and what each is divided by where it is used.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace vixen {

/// [n, D] numbers: values[i] / divisors[i], divided in float64 and rounded to float32; without divisors the values. So
/// rows of unit length need no more memory than the file's float16.
struct ScaledRows {
  ScaledRows() = default;
  /// values: of a float type; kept, not copied, when contiguous and float32, float16 or, not on a CPU, bfloat16.
  /// divisors, of float16 values: float64 [n], not zero, where the values are; or undefined.
  ScaledRows(const at::Tensor& values, at::Tensor divisors = {});  // NOLINT: a tensor is rows without divisors

  /// The same for values on the CPU that `device`, which is none, is to search: they go to pinned memory, from where
  /// the exact search reads them part by part.
  static ScaledRows streamed(const at::Tensor& values, at::Tensor divisors, at::Device device);

  /// Where queries are multiplied by these rows.
  at::Device device() const { return streams_to_.value_or(values.device()); }

  int64_t size() const { return values.size(0); }
  int64_t width() const { return values.size(1); }
  int64_t bytes() const;
  /// Rows [begin, begin + n) as float32 [n, D], where the values are; a view where nothing is to be computed.
  at::Tensor wide(int64_t begin, int64_t n) const;

  at::Tensor values;    // float32, float16 or bfloat16 [n, D], contiguous
  at::Tensor divisors;  // float64 [n] or undefined

 private:
  std::optional<at::Device> streams_to_;
};

/// values [n, D] / divisors [n], or the values where these are undefined, as float32, in ATen operations: what
/// ScaledRows says, on any device.
at::Tensor divided(const at::Tensor& values, const at::Tensor& divisors);

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
