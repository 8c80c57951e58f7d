// A float is NaN or infinite when its exponent is all ones: a bit test that needs no arithmetic.
#include "data/finite.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <vector>

#include "base/check.hpp"
#include "data/first_where.hpp"

namespace vixen {
namespace {

template <typename Bits>
int64_t first_with_exponent(const at::Tensor& values, Bits exponent) {
  const auto* bits = static_cast<const Bits*>(values.const_data_ptr());
  return first_where(values.numel(), [=](int64_t i) { return (bits[i] & exponent) == exponent; });
}

std::optional<BadValue> named(const at::Tensor& values, int64_t index) {
  if (index == values.numel()) return std::nullopt;
  const auto value = values.flatten()[index].to(at::kDouble).item<double>();
  if (std::isnan(value)) return BadValue{index, "NaN"};
  if (std::isinf(value)) return BadValue{index, value > 0 ? "infinity" : "-infinity"};
  return BadValue{index, fmt::format("{:g}, beyond the range of float32", value)};
}

}  // namespace

std::optional<BadValue> first_not_finite(const at::Tensor& values) {
  VIXEN_CHECK(values.device().is_cpu() && values.is_contiguous(), "a contiguous tensor on the CPU is expected");
  switch (values.scalar_type()) {
    case at::kHalf:
      return named(values, first_with_exponent<uint16_t>(values, 0x7C00));
    case at::kBFloat16:
      return named(values, first_with_exponent<uint16_t>(values, 0x7F80));
    case at::kFloat:
      return named(values, first_with_exponent<uint32_t>(values, 0x7F800000u));
    case at::kDouble:
      return named(values, first_with_exponent<uint64_t>(values, 0x7FF0000000000000u));
    default:
      break;
  }
  if (!at::isFloatingType(values.scalar_type())) return std::nullopt;
  const at::Tensor wide = values.to(at::kFloat);  // eight bits: each format has its own way to say NaN
  return named(wide, first_with_exponent<uint32_t>(wide, 0x7F800000u));
}

std::optional<BadValue> first_beyond_float32(const at::Tensor& values) {
  if (values.scalar_type() != at::kDouble) return first_not_finite(values);
  VIXEN_CHECK(values.device().is_cpu() && values.is_contiguous(), "a contiguous tensor on the CPU is expected");
  // What rounds to infinity: half a step beyond the largest float32. The comparison is false for NaN too.
  constexpr double kLimit = 0x1.ffffffp127;
  const double* data = values.const_data_ptr<double>();
  return named(values, first_where(values.numel(), [=](int64_t i) { return !(std::abs(data[i]) < kLimit); }));
}

std::string place_of(int64_t index, at::IntArrayRef shape) {
  if (shape.empty()) return "";
  std::vector<int64_t> place(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    place[d] = index % shape[d];
    index /= shape[d];
  }
  return fmt::format("{}", place);
}

}  // namespace vixen
