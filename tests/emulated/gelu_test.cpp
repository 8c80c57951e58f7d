// The CUDA kernels of GELU and of bias gradients, emulated: against the reference, far tails, bytes.
#include "emulated/comparison.hpp"
#include "kernels/activation.hpp"
#include "kernels/dispatch.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kActivation;

struct Shape {
  int64_t rows, width;
};
constexpr Shape kShapes[] = {{1, 1}, {3, 13}, {5, 8}, {37, 12}, {70, 304}, {3, 1030}};

TEST(EmulatedGelu, MeetsTheReference) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, width] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << width);
      const at::Tensor x = (random({rows, width}, 1) * 2).to(dtype), grad = random({rows, width}, 2, dtype);
      const int64_t bytes = element_bytes(dtype) * rows * width;
      Counts counted = expect_meets_reference("gelu", kFamily, dtype, [&] { return Results{vixen::gelu(x)}; });
      EXPECT_EQ(counted.loaded_bytes, bytes);
      EXPECT_EQ(counted.stored_bytes, bytes);
      counted = expect_meets_reference("gelu_backward", kFamily, dtype,
                                       [&] { return Results{vixen::gelu_backward(grad, x)}; });
      EXPECT_EQ(counted.loaded_bytes, 2 * bytes);
      EXPECT_EQ(counted.stored_bytes, bytes);
    }
}

// The left tail is x times a small number, which a difference from one would lose.
TEST(EmulatedGelu, TheLeftTailKeepsItsDigits) {
  const at::Tensor x = at::linspace(-12, 4, 2001), wide = x.to(at::kDouble);
  const at::Tensor want = wide * 0.5 * at::special_erfc(-wide * std::sqrt(0.5));
  const Emulation emulation;
  const at::Tensor error = (vixen::gelu(x).to(at::kDouble) - want).abs() / want.abs().clamp_min(1e-30);
  EXPECT_LT(error.max().item<double>(), 2e-5);  // x / sqrt(2) is rounded before it is squared
}

TEST(EmulatedGelu, BiasGradientsMeetTheReference) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, width] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << width);
      const at::Tensor grad = random({rows, width}, 2, dtype);
      const Counts counted = expect_meets_reference("column_sums", kFamily, dtype, [&] {
        at::Tensor bias = random({width}, 3);
        accumulate_bias_gradient(grad, bias);
        return Results{bias};
      });
      EXPECT_EQ(counted.loaded_bytes, element_bytes(dtype) * rows * width);
      EXPECT_EQ(counted.stored_bytes, 4 * chunk_count(rows) * width);
    }
}

}  // namespace
}  // namespace vixen::emulated
