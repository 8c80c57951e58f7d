// The body of int8_kernels_*.cpp. No inline function of a library is used here: the linker could keep this file's copy
// of it for the whole program.
#pragma once

#include "search/int8_kernels.hpp"

namespace vixen {
namespace {

constexpr int64_t kGroup = 8;            // columns of a group
constexpr int32_t kUnbounded = 1 << 20;  // as a largest sum: never reached

using Floats = float __attribute__((vector_size(32)));
using Ints = int32_t __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;

inline float largest_of(const Floats& values) {
  float most = values[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) most = values[lane] > most ? values[lane] : most;
  return most;
}

template <typename Vector>
inline auto sum_of(const Vector& values) {
  auto sum = values[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) sum += values[lane];
  return sum;
}

CodedRow code_row(const float* row, int64_t padded_width, const CodeLimits& limits, int8_t* codes) {
  const int64_t groups = padded_width / kGroup;
  const Floats zero = {};
  Floats most = {}, most_sum = {};
  for (int64_t i = 0; i < groups; i += kLanes) {
    Floats above = {}, below = {};
    for (int64_t column = 0; column < kGroup; ++column) {
      Floats value;
      __builtin_memcpy(&value, row + column * groups + i, sizeof(value));
      const Floats positive = value > zero ? value : zero, negative = value < zero ? -value : zero;
      above += positive;
      below += negative;
      const Floats magnitude = positive + negative;
      most = magnitude > most ? magnitude : most;
    }
    const Floats sum = above > below ? above : below;
    most_sum = sum > most_sum ? sum : most_sum;
  }
  // Rounding adds at most a half to each of a group's eight codes.
  const float by_code = largest_of(most) / static_cast<float>(limits.largest);
  const float by_sum =
      largest_of(most_sum) / (static_cast<float>(limits.largest_sum) - 0.5F * static_cast<float>(kGroup));
  float scale = by_code > by_sum ? by_code : by_sum;
  scale = scale > 1e-30F ? scale : 1e-30F;
  const float inverse = 1 / scale;

  const Floats shift = zero + 0x1.8p23F;  // adding it leaves the nearest integer in the last bits
  Floats error_squares = {};
  Ints code_squares = {}, code_sum = {};
  for (int64_t first = 0; first < padded_width; first += kInt8Block) {
    int32_t wide[kInt8Block];
    for (int64_t i = 0; i < kInt8Block; i += kLanes) {
      Floats value;
      __builtin_memcpy(&value, row + first + i, sizeof(value));
      const Floats shifted = value * inverse + shift;
      const Ints code = __builtin_bit_cast(Ints, shifted) - __builtin_bit_cast(Ints, shift);
      const Floats error = value - scale * (shifted - shift);
      error_squares += error * error;
      code_squares += code * code;
      code_sum += code;
      __builtin_memcpy(wide + i, &code, sizeof(code));
    }
    for (int64_t i = 0; i < kInt8Block; ++i) codes[first + i] = static_cast<int8_t>(wide[i]);
  }
  return {scale, sum_of(error_squares), sum_of(code_squares), sum_of(code_sum)};
}

}  // namespace
}  // namespace vixen
