#include "search/scaled_rows.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "base/check.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

constexpr int64_t kLineBytes = 64;

constexpr int64_t kGrain = 64;  // rows widened by a thread at a time

/// Rows [first, first + n) in float32, on the CPU.
at::Tensor widened(const ScaledRows& rows, int64_t first, int64_t n) {
  const RowReader reader(rows);
  const int64_t d = rows.width();
  at::Tensor wide = at::empty({n, d}, at::kFloat);
  auto* data = wide.mutable_data_ptr<float>();
  at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* to = data + i * d;
      const float* row = reader.row(first + i, to);
      if (row != to) std::copy_n(row, d, to);
    }
  });
  return wide;
}

}  // namespace

ScaledRows::ScaledRows(const at::Tensor& rows, at::Tensor row_divisors) : divisors(std::move(row_divisors)) {
  VIXEN_CHECK(rows.dim() == 2, "rows of {} dimensions", rows.dim());
  const bool kept = rows.scalar_type() == at::kHalf || (rows.scalar_type() == at::kBFloat16 && !rows.device().is_cpu());
  values = (kept ? rows : rows.to(at::kFloat)).contiguous();
  if (!divisors.defined()) return;
  VIXEN_CHECK(values.scalar_type() == at::kHalf && divisors.device() == values.device() &&
                  divisors.scalar_type() == at::kDouble && divisors.is_contiguous() && divisors.dim() == 1 &&
                  divisors.size(0) == values.size(0),
              "divisors [{}] for {} rows", divisors.numel(), values.size(0));
}

ScaledRows ScaledRows::streamed(const at::Tensor& values, at::Tensor divisors, at::Device device) {
  VIXEN_CHECK(values.is_cpu() && !device.is_cpu(), "rows on {} for {}", values.device().str(), device.str());
  ScaledRows rows(values, std::move(divisors));
  if (!rows.values.is_pinned()) rows.values = rows.values.pin_memory();
  rows.streams_to_ = device;
  return rows;
}

int64_t ScaledRows::bytes() const {
  return static_cast<int64_t>(values.nbytes() + (divisors.defined() ? divisors.nbytes() : 0));
}

at::Tensor ScaledRows::wide(int64_t begin, int64_t n) const {
  const at::Tensor rows = values.narrow(0, begin, n);
  if (!rows.is_cpu()) return divided(rows, divisors.defined() ? divisors.narrow(0, begin, n) : divisors);
  return rows.scalar_type() == at::kFloat ? rows : widened(*this, begin, n);
}

at::Tensor divided(const at::Tensor& values, const at::Tensor& divisors) {
  if (!divisors.defined()) return values.to(at::kFloat);
  return (values.to(at::kDouble) / divisors.unsqueeze(1)).to(at::kFloat);
}

RowReader::RowReader(const ScaledRows& rows) : width_(rows.width()) {
  VIXEN_CHECK(rows.values.is_cpu(), "rows on {}", rows.values.device().str());
  if (rows.values.scalar_type() == at::kHalf) {
    float16_ = static_cast<const uint16_t*>(rows.values.const_data_ptr());
  } else {
    float32_ = rows.values.const_data_ptr<float>();
  }
  if (rows.divisors.defined()) divisors_ = rows.divisors.const_data_ptr<double>();
}

const float* RowReader::undivided(int64_t i, float* scratch) const {
  if (float32_ != nullptr) return float32_ + i * width_;
  scan_kernels().widen_float16(float16_ + i * width_, width_, scratch);
  return scratch;
}

const float* RowReader::row(int64_t i, float* scratch) const {
  const float* values = undivided(i, scratch);
  if (divisors_ == nullptr) return values;
  const double divisor = divisors_[i];
  for (int64_t column = 0; column < width_; ++column)
    scratch[column] = static_cast<float>(static_cast<double>(values[column]) / divisor);
  return scratch;
}

void RowReader::prefetch(int64_t i) const {
  const char* row = float32_ != nullptr ? reinterpret_cast<const char*>(float32_ + i * width_)
                                        : reinterpret_cast<const char*>(float16_ + i * width_);
  const int64_t bytes = width_ * (float32_ != nullptr ? 4 : 2);
  for (int64_t offset = 0; offset < bytes; offset += kLineBytes) __builtin_prefetch(row + offset);
}

}  // namespace vixen
