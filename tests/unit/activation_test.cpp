// GELU against its definition in double, its derivative, and column sums.
#include "kernels/activation.hpp"
#include "kernels/reference.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

TEST(Activation, GeluIsExactOverItsRange) {
  const at::Tensor x = at::linspace(-14, 14, 200003);
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor want = wide * 0.5 * at::special_erfc(-wide / std::sqrt(2.0));
  for_each_isa([&](const char*) {
    const at::Tensor error =
        (vixen::gelu(x.view({1, -1})).view(-1).to(at::kDouble) - want).abs() / wide.abs().clamp_min(1);
    EXPECT_LT(error.max().item<double>(), 2e-7);
  });
}

TEST(Activation, GeluBackwardIsItsDerivative) {
  const at::Tensor x = at::linspace(-14, 14, 200003), grad = random({200003}, 8);
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor slope = 0.5 * at::special_erfc(-wide / std::sqrt(2.0)) +
                           wide * at::exp(-0.5 * wide.square()) / std::sqrt(2 * 3.14159265358979323846);
  for_each_isa([&](const char*) {
    const at::Tensor got = vixen::gelu_backward(grad.view({1, -1}), x.view({1, -1})).view(-1).to(at::kDouble);
    EXPECT_LT((got - grad * slope).abs().max().item<double>(), 3e-6);  // |grad| up to 5
  });
}

TEST(Activation, Bfloat16RoundsOnce) {
  const at::Tensor x = random({37, 129}, 1, at::kBFloat16), grad = random({37, 129}, 2, at::kBFloat16);
  for_each_isa([&](const char*) {
    const at::Tensor y = vixen::gelu(x), g = vixen::gelu_backward(grad, x);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    // Half an ulp of bfloat16 is at most 2^-8 of a value, and float32's own error where the value is a cancellation.
    const at::Tensor want = reference::gelu(x.to(at::kDouble)),
                     slope = reference::gelu_backward(grad.to(at::kDouble), x.to(at::kDouble));
    EXPECT_TRUE(((y.to(at::kDouble) - want).abs() <= want.abs() * 0.00391 + 1e-6).all().item<bool>());
    EXPECT_TRUE(((g.to(at::kDouble) - slope).abs() <= slope.abs() * 0.00391 + 1e-6).all().item<bool>());
  });
}

TEST(Activation, NonFiniteValuesPassThrough) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto dtype : kStorages) {
    const at::Tensor x = at::tensor({nan, inf, 0.0, 1.0}).to(dtype).view({1, 4});
    for_each_isa([&](const char*) {
      const at::Tensor y = vixen::gelu(x).to(at::kFloat)[0];
      EXPECT_TRUE(std::isnan(y[0].item<float>()));
      EXPECT_FALSE(std::isfinite(y[1].item<float>()));
      EXPECT_EQ(y[2].item<float>(), 0.0f);
    });
  }
}

TEST(Activation, BiasGradientAddsColumnSums) {
  for (const auto dtype : kStorages) {
    for (const int64_t rows : {0, 1, 3, 31, 33, 700, 5001}) {
      const at::Tensor grad = random({rows, 70}, 4, dtype);
      const at::Tensor want = grad.to(at::kDouble).sum(0) + 2;
      for_each_isa([&](const char*) {
        at::Tensor bias = at::full({70}, 2.0f);
        accumulate_bias_gradient(grad, bias);
        EXPECT_LT(difference(bias, want), 3e-6) << rows;
      });
    }
  }
}

TEST(Activation, ThreadsChangeNothing) {
  const at::Tensor x = random({999, 130}, 5), grad = random({999, 130}, 6);
  expect_same_for_threads([&] {
    at::Tensor bias = at::zeros({130});
    accumulate_bias_gradient(grad, bias);
    return std::vector<at::Tensor>{vixen::gelu(x), vixen::gelu_backward(grad, x), bias};
  });
}

}  // namespace
}  // namespace vixen
