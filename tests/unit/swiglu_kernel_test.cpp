// SwiGLU: fused against the formula in double over all sizes of gates, gradients against finite differences.
#include "kernels/reference.hpp"
#include "kernels/swiglu.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

at::Tensor formula(const at::Tensor& gate_up) {
  const std::vector<at::Tensor> parts = gate_up.to(at::kDouble).chunk(2, 1);
  return parts[0] * at::sigmoid(parts[0]) * parts[1];
}

/// Its gradient, in double; silu'(g) = s (1 + g (1 - s)).
at::Tensor formula_backward(const at::Tensor& grad, const at::Tensor& gate_up) {
  const std::vector<at::Tensor> parts = gate_up.to(at::kDouble).chunk(2, 1);
  const at::Tensor s = at::sigmoid(parts[0]), rest = at::sigmoid(-parts[0]), g = grad.to(at::kDouble);
  return at::cat({g * parts[1] * s * (1 + parts[0] * rest), g * parts[0] * s}, 1);
}

TEST(SwigluKernel, FormulaBackwardIsTheDerivative) {
  const at::Tensor gate_up = (random({2, 12}, 1) * 3).to(at::kDouble), grad = random({2, 6}, 2).to(at::kDouble);
  expect_derivative(formula_backward(grad, gate_up), gate_up, 1e-6, 1e-8,
                    [&](const at::Tensor& x) { return (formula(x) * grad).sum().item<double>(); });
}

TEST(SwigluKernel, FollowsTheFormula) {
  for (const auto dtype : kStorages) {
    for (const int64_t width : {1, 13, 64, 1536}) {
      const at::Tensor gate_up = (random({37, 2 * width}, 1) * 3).to(dtype), grad = random({37, width}, 2, dtype);
      const at::Tensor want = formula(gate_up), want_grad = formula_backward(grad, gate_up);
      const double most = dtype == at::kFloat ? 1e-6 : tolerance(dtype);
      EXPECT_LT(difference(reference::swiglu(gate_up), want), most);
      EXPECT_LT(difference(reference::swiglu_backward(grad, gate_up), want_grad), most);
      for_each_isa([&](const char*) {
        const at::Tensor y = swiglu(gate_up), back = swiglu_backward(grad, gate_up);
        EXPECT_EQ(y.scalar_type(), dtype);
        EXPECT_LT(difference(y, want), most) << width;
        EXPECT_LT(difference(back, want_grad), most) << width;
      });
    }
  }
}

// Whoever backward gives the activation once more gives the forward's bits, in the gradient's place.
TEST(SwigluKernel, BackwardMakesTheActivationAgainToTheBit) {
  for (const auto dtype : kStorages)
    for (const int64_t width : {1, 13, 64, 1536}) {
      const at::Tensor gate_up = (random({37, 2 * width}, 1) * 3).to(dtype), grad = random({37, width}, 2, dtype);
      const auto expect_again = [&] {
        at::Tensor activation = grad.clone();
        EXPECT_TRUE(swiglu_backward_again(activation, gate_up).equal(swiglu_backward(grad, gate_up))) << width;
        EXPECT_TRUE(activation.equal(swiglu(gate_up))) << width;
      };
      for_each_isa([&](const char*) { expect_again(); });
      const ScopedChoices choices(KernelFamily::kActivation, KernelChoice::kReference);
      expect_again();
    }
  at::Tensor columns = random({4, 3}, 2).t();
  EXPECT_ANY_THROW(swiglu_backward_again(columns, random({3, 8}, 1)));
}

TEST(SwigluKernel, EachValueIsRightToARounding) {
  const at::Tensor gate = at::linspace(-80, 80, 4001), gate_up = at::stack({gate, at::ones({4001})}, 1);
  const at::Tensor want = formula(gate_up);
  for_each_isa([&](const char* isa) {
    // Without fused multiply-add, exp loses 5e-8 |x| more.
    const double most = std::string(isa) == "baseline" ? 5e-6 : 8e-7;
    const at::Tensor error = ((swiglu(gate_up).to(at::kDouble) - want) / want.abs().clamp_min(1e-37)).abs();
    EXPECT_LT(error.max().item<double>(), most);
  });
}

TEST(SwigluKernel, LargeGatesStayFinite) {
  const at::Tensor gate_up =
      at::tensor({-1e30, -1e4, -100.0, -88.0, 100.0, 1e4, 1e30, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0}, at::kFloat)
          .view({1, 14});
  const at::Tensor grad = at::ones({1, 7});
  for_each_isa([&](const char*) {
    const at::Tensor y = swiglu(gate_up), back = swiglu_backward(grad, gate_up);
    EXPECT_TRUE(at::allclose(y.to(at::kDouble), formula(gate_up), 1e-6, 1e-6));
    EXPECT_TRUE(at::allclose(back.to(at::kDouble), formula_backward(grad, gate_up), 1e-6, 1e-6));
  });
}

TEST(SwigluKernel, ThreadsChangeNothing) {
  const at::Tensor gate_up = random({500, 2 * 96}, 1, at::kBFloat16), grad = random({500, 96}, 2, at::kBFloat16);
  expect_same_for_threads([&] { return std::vector<at::Tensor>{swiglu(gate_up), swiglu_backward(grad, gate_up)}; });
}

}  // namespace
}  // namespace vixen
