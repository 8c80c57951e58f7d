// Looking for NaN and infinity, and for what float32 cannot hold, as fast as memory can be read.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace vixen {

/// A value that no computation can go on from.
struct BadValue {
  int64_t index = 0;  // row-major
  std::string text;   // "NaN", "infinity", "-infinity"; or "1e+200, beyond the range of float32"
};

/// The first NaN or infinity of a contiguous CPU tensor of any dtype (integers have none), with all threads.
std::optional<BadValue> first_not_finite(const at::Tensor& values);

/// The same, and float64 values that float32 has no finite number for.
std::optional<BadValue> first_beyond_float32(const at::Tensor& values);

/// "[2, 17]": the place of a row-major index in a tensor of this shape; "" of a scalar.
std::string place_of(int64_t index, at::IntArrayRef shape);

}  // namespace vixen
