// Root-mean-square norm with residual: fused against reference, reference against the formula in double, gradients
// against finite differences of it; the norm made again; instruction sets, threads, frozen weights.
#include "kernels/reference.hpp"
#include "kernels/rms_norm.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

constexpr double kEps = 1e-5;

struct Case {
  at::Tensor x, residual, weight, grad, along;
};

Case make_case(int64_t rows, int64_t width, at::ScalarType dtype) {
  return {(random({rows, width}, 1) * 2 + 0.5).to(dtype), random({rows, width}, 2, dtype), 1 + 0.2 * random({width}, 3),
          random({rows, width}, 4, dtype), random({rows, width}, 5, dtype)};
}

/// In double.
at::Tensor formula(const at::Tensor& sum, const at::Tensor& weight) {
  const at::Tensor wide = sum.to(at::kDouble);
  return weight.to(at::kDouble) * wide / (wide.square().mean(1, true) + kEps).sqrt();
}

TEST(RmsNormKernel, ReferenceFollowsTheFormula) {
  const Case c = make_case(30, 48, at::kFloat);
  const auto with = reference::add_rms_norm(c.x, c.residual, c.weight, kEps);
  EXPECT_LT(difference(with.y, formula(c.x + c.residual, c.weight)), 1e-6);
  EXPECT_TRUE(at::equal(with.sum, c.x + c.residual));
  const auto without = reference::add_rms_norm(c.x, {}, c.weight, kEps);
  EXPECT_LT(difference(without.y, formula(c.x, c.weight)), 1e-6);
  EXPECT_TRUE(at::equal(without.sum, c.x));
}

TEST(RmsNormKernel, ReferenceBackwardIsTheDerivative) {
  const Case c = make_case(4, 9, at::kFloat);
  const auto forward = reference::add_rms_norm(c.x, {}, c.weight, kEps);
  at::Tensor grad_weight = at::ones({9});
  const at::Tensor grad =
      reference::add_rms_norm_backward(c.grad, c.along, forward.sum, forward.rstd, c.weight, grad_weight);
  const auto value = [&](const at::Tensor& x, const at::Tensor& weight) {
    return ((formula(x, weight) * c.grad).sum() + (x * c.along).sum()).item<double>();
  };
  expect_derivative(grad, c.x, 1e-6, 2e-6, [&](const at::Tensor& x) { return value(x, c.weight); });
  // The weight's gradient is added to what was there.
  expect_derivative(grad_weight - 1, c.weight, 1e-6, 2e-6,
                    [&](const at::Tensor& w) { return value(c.x.to(at::kDouble), w); });
}

TEST(RmsNormKernel, FusedIsReference) {
  for (const auto dtype : kStorages) {
    for (const int64_t width : {1, 7, 64, 70, 576}) {
      const Case c = make_case(150, width, dtype);
      for (const bool with_residual : {false, true}) {
        const at::Tensor residual = with_residual ? c.residual : at::Tensor{};
        const at::Tensor along = with_residual ? c.along : at::Tensor{};
        const auto want = reference::add_rms_norm(c.x, residual, c.weight, kEps);
        at::Tensor want_weight = at::ones({width});
        const at::Tensor want_grad =
            reference::add_rms_norm_backward(c.grad, along, want.sum, want.rstd, c.weight, want_weight);
        for_each_isa([&](const char*) {
          const auto got = add_rms_norm(c.x, residual, c.weight, kEps);
          EXPECT_EQ(got.y.scalar_type(), dtype);
          EXPECT_TRUE(at::equal(got.sum, want.sum));
          EXPECT_LT(difference(got.y, want.y), tolerance(dtype));
          EXPECT_LT(difference(got.rstd, want.rstd), 1e-6);
          at::Tensor grad_weight = at::ones({width});
          const at::Tensor grad = add_rms_norm_backward(c.grad, along, got.sum, got.rstd, c.weight, grad_weight);
          EXPECT_LT(difference(grad, want_grad), tolerance(dtype)) << width;
          EXPECT_LT(difference(grad_weight, want_weight), 3e-6) << width;
          const at::Tensor frozen = add_rms_norm_backward(c.grad, along, got.sum, got.rstd, c.weight, {});
          EXPECT_TRUE(at::equal(frozen, grad));
        });
      }
    }
  }
}

TEST(RmsNormKernel, AgainIsTheSameToTheBit) {
  for (const auto dtype : kStorages) {
    const Case c = make_case(70, 83, dtype);
    for (const at::Tensor& residual : {c.residual, at::Tensor{}}) {
      const auto slow = reference::add_rms_norm(c.x, residual, c.weight, kEps);
      EXPECT_TRUE(at::equal(reference::rms_norm_again(slow.sum, slow.rstd, c.weight), slow.y));
      for_each_isa([&](const char*) {
        const auto forward = add_rms_norm(c.x, residual, c.weight, kEps);
        EXPECT_TRUE(at::equal(rms_norm_again(forward.sum, forward.rstd, c.weight), forward.y));
      });
    }
  }
}

TEST(RmsNormKernel, EmptyBatches) {
  const auto result = add_rms_norm(at::zeros({0, 8}), {}, at::ones({8}), kEps);
  EXPECT_EQ(result.y.size(0), 0);
  at::Tensor grad_weight = at::ones({8});
  add_rms_norm_backward(result.y, {}, result.sum, result.rstd, at::ones({8}), grad_weight);
  EXPECT_TRUE(at::equal(grad_weight, at::ones({8})));
}

TEST(RmsNormKernel, ChoiceIsFollowed) {
  const Case c = make_case(20, 64, at::kBFloat16);
  const auto want = reference::add_rms_norm(c.x, c.residual, c.weight, kEps);
  set_kernel_choices({.norm = KernelChoice::kReference});
  const auto got = add_rms_norm(c.x, c.residual, c.weight, kEps);
  set_kernel_choices({});
  EXPECT_TRUE(at::equal(got.y, want.y));
  EXPECT_TRUE(at::equal(got.rstd, want.rstd));
}

TEST(RmsNormKernel, ThreadsChangeNothing) {
  const Case c = make_case(5000, 72, at::kFloat);
  expect_same_for_threads([&] {
    const auto forward = add_rms_norm(c.x, c.residual, c.weight, kEps);
    at::Tensor grad_weight = at::zeros({72});
    const at::Tensor grad = add_rms_norm_backward(c.grad, c.along, forward.sum, forward.rstd, c.weight, grad_weight);
    return std::vector<at::Tensor>{forward.y, forward.sum, forward.rstd, grad, grad_weight};
  });
}

}  // namespace
}  // namespace vixen
