// The scan for NaN and infinity finds the first bad value of every float type, wherever it stands.
#include "data/finite.hpp"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <limits>

namespace vixen {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(Finite, EveryFloatTypeAndPlace) {
  for (const auto dtype : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    at::Tensor values = at::ones({3'000'000}, dtype);  // beyond one thread's share
    EXPECT_FALSE(first_not_finite(values));
    for (const int64_t place : {2'999'999, 1'500'000, 4096, 4095, 0}) {
      values[place] = place % 2 == 0 ? -kInfinity : std::numeric_limits<double>::quiet_NaN();
      const auto bad = first_not_finite(values);
      ASSERT_TRUE(bad) << dtype << " " << place;
      EXPECT_EQ(bad->index, place);
      EXPECT_EQ(bad->text, place % 2 == 0 ? "-infinity" : "NaN");
    }
  }
}

TEST(Finite, LargestSmallestAndWhole) {
  for (const auto dtype : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    const double largest = dtype == at::kHalf ? 65504 : 3e38;
    const at::Tensor values = at::tensor({largest, -largest, 0.0, -0.0, 1e-310}, at::kDouble).to(dtype);
    EXPECT_FALSE(first_not_finite(values)) << dtype;
  }
  EXPECT_FALSE(first_not_finite(at::full({5}, -1, at::kLong)));  // all bits set
  EXPECT_FALSE(first_not_finite(at::empty({0, 3})));
  const at::Tensor eighths = at::tensor({1.f, 448.f}).to(at::kFloat8_e4m3fn);
  EXPECT_FALSE(first_not_finite(eighths));
  eighths.view(at::kByte)[1] = 0x7F;
  EXPECT_EQ(first_not_finite(eighths)->index, 1);
}

TEST(Finite, BeyondFloat32) {
  EXPECT_EQ(first_beyond_float32(at::tensor({1.0, -1e39}, at::kDouble))->text, "-1e+39, beyond the range of float32");
  EXPECT_EQ(first_beyond_float32(at::tensor({kInfinity}, at::kDouble))->text, "infinity");
  EXPECT_EQ(first_beyond_float32(at::tensor({kInfinity}, at::kFloat))->text, "infinity");
  EXPECT_FALSE(first_beyond_float32(at::tensor({3.4028234e38, 1e-300}, at::kDouble)));
}

TEST(Finite, PlacesAreNamedByTheirShape) {
  EXPECT_EQ(place_of(17, {2, 3, 4}), "[1, 1, 1]");
  EXPECT_EQ(place_of(5, {7}), "[5]");
  EXPECT_EQ(place_of(0, {}), "");
}

}  // namespace
}  // namespace vixen
