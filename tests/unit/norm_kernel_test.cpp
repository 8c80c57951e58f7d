// Layer norm with dropout and residual: fused against reference, reference against at::native_layer_norm, gradients
// against finite differences in double.
#include "kernels/norm.hpp"
#include "kernels/reference.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

constexpr double kEps = 1e-12;
Dropout rate(double p) {
  return {.p = p, .seed = 5, .step = 6, .site = 7};
}

struct Case {
  Packed packed;
  at::Tensor x, residual, weight, bias, grad;
};

Case make_case(int64_t width, at::ScalarType dtype, const std::vector<int64_t>& lengths = {3, 40, 1, 150}) {
  Case c{pack(lengths), {}, {}, {}, {}, {}};
  c.x = (random({c.packed.positions, width}, 1) * 2 + 0.5).to(dtype);
  c.residual = random({c.packed.positions, width}, 2, dtype);
  c.weight = 1 + 0.2 * random({width}, 3);
  c.bias = random({width}, 4);
  c.grad = random({c.packed.positions, width}, 5, dtype);
  return c;
}

at::Tensor layer_norm(const at::Tensor& x, const Case& c) {
  const auto dtype = x.scalar_type();
  return std::get<0>(at::native_layer_norm(x, {x.size(1)}, c.weight.to(dtype), c.bias.to(dtype), kEps));
}

TEST(NormKernel, ReferenceFollowsTheFormula) {
  const Case c = make_case(48, at::kFloat);
  const at::Tensor mask = dropout_mask(c.packed.keys, 48, rate(0.3)).to(at::kDouble) / 0.7;
  const at::Tensor sum = c.x.to(at::kDouble) * mask + c.residual.to(at::kDouble);
  const auto before = reference::dropout_add_norm(c.x, c.residual, c.weight, c.bias, kEps, c.packed.keys, rate(0.3));
  EXPECT_LT(difference(before.y, layer_norm(sum, c)), 1e-6);
  EXPECT_LT(difference(before.sum, sum), 1e-6);
  const auto after = reference::norm_dropout(c.x, c.weight, c.bias, kEps, c.packed.keys, rate(0.3));
  EXPECT_LT(difference(after.y, layer_norm(c.x.to(at::kDouble), c) * mask), 1e-6);
}

TEST(NormKernel, ReferenceBackwardIsTheDerivative) {
  Case c = make_case(9, at::kFloat, {2, 3});
  const at::Tensor mask = dropout_mask(c.packed.keys, 9, rate(0.3)).to(at::kDouble) / 0.7;
  for (const bool after : {false, true}) {
    const auto value = [&](const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                           const at::Tensor& bias) {
      Case changed = c;
      changed.weight = weight;
      changed.bias = bias;
      const at::Tensor y = after ? layer_norm(x, changed) * mask : layer_norm(x * mask + residual, changed);
      return (y * c.grad.to(at::kDouble)).sum().item<double>();
    };
    at::Tensor grad_weight = at::ones({9}), grad_bias = at::ones({9}), grad_x, grad_residual;
    if (after) {
      const auto forward = reference::norm_dropout(c.x, c.weight, c.bias, kEps, c.packed.keys, rate(0.3));
      grad_x =
          reference::norm_dropout_backward(c.grad, forward, c.weight, c.packed.keys, rate(0.3), grad_weight, grad_bias);
    } else {
      const auto forward =
          reference::dropout_add_norm(c.x, c.residual, c.weight, c.bias, kEps, c.packed.keys, rate(0.3));
      const auto grads = reference::dropout_add_norm_backward(c.grad, forward, c.weight, c.packed.keys, rate(0.3),
                                                              grad_weight, grad_bias);
      grad_x = grads.x;
      grad_residual = grads.residual;
    }
    const std::vector<at::Tensor> inputs{c.x.to(at::kDouble), c.residual.to(at::kDouble), c.weight.to(at::kDouble),
                                         c.bias.to(at::kDouble)};
    // Parameter gradients are added to what was there.
    const std::vector<at::Tensor> grads{grad_x, grad_residual, grad_weight - 1, grad_bias - 1};
    for (size_t which = 0; which < 4; ++which) {
      if (!grads[which].defined()) continue;
      SCOPED_TRACE(which);
      expect_derivative(grads[which], inputs[which], 1e-5, 2e-5, [&](const at::Tensor& x) {
        auto moved = inputs;
        moved[which] = x;
        return value(moved[0], moved[1], moved[2], moved[3]);
      });
    }
  }
}

TEST(NormKernel, FusedIsReference) {
  for (const auto dtype : kStorages) {
    for (const int64_t width : {1, 5, 64, 100, 384, 771}) {
      for (const double p : {0.0, 0.1}) {
        for (const bool with_residual : {true, false}) {
          if (width == 1 && !with_residual && p == 0) continue;  // a row of one: nothing but zeros to compare
          const Case c = make_case(width, dtype);
          const at::Tensor residual = with_residual ? c.residual : at::Tensor{};
          const auto& keys = c.packed.keys;
          const auto want = reference::dropout_add_norm(c.x, residual, c.weight, c.bias, 1e-5, keys, rate(p));
          at::Tensor want_weight = at::ones({width}), want_bias = at::ones({width});
          const auto want_grad =
              reference::dropout_add_norm_backward(c.grad, want, c.weight, keys, rate(p), want_weight, want_bias);
          for_each_isa([&](const char*) {
            SCOPED_TRACE(width);
            const auto got = dropout_add_norm(c.x, residual, c.weight, c.bias, 1e-5, keys, rate(p));
            EXPECT_LT(difference(got.sum, want.sum), tolerance(dtype));
            EXPECT_LT(difference(got.y, want.y), tolerance(dtype));
            EXPECT_LT(difference(got.stats, want.stats), 1e-2 * tolerance(dtype) + 3e-6);
            at::Tensor grad_weight = at::ones({width}), grad_bias = at::ones({width});
            const auto grad = dropout_add_norm_backward(c.grad, want, c.weight, keys, rate(p), grad_weight, grad_bias);
            if (width > 1) {  // a row of one has gradient 0 but for rounding
              EXPECT_LT(difference(grad.x, want_grad.x), tolerance(dtype));
              EXPECT_LT(difference(grad.residual, want_grad.residual), tolerance(dtype));
            }
            EXPECT_LT(difference(grad_weight, want_weight), 5e-6);
            EXPECT_LT(difference(grad_bias, want_bias), 5e-6);
          });
        }
      }
    }
  }
}

TEST(NormKernel, FusedDropoutAfterIsReference) {
  for (const auto dtype : kStorages) {
    const Case c = make_case(200, dtype);
    const auto& keys = c.packed.keys;
    const auto want = reference::norm_dropout(c.x, c.weight, c.bias, kEps, keys, rate(0.1));
    at::Tensor want_weight = at::zeros({200}), want_bias = at::zeros({200});
    const auto want_grad =
        reference::norm_dropout_backward(c.grad, want, c.weight, keys, rate(0.1), want_weight, want_bias);
    for_each_isa([&](const char*) {
      const auto got = norm_dropout(c.x, c.weight, c.bias, kEps, keys, rate(0.1));
      EXPECT_TRUE(got.sum.is_same(c.x) || at::equal(got.sum, c.x));
      EXPECT_LT(difference(got.y, want.y), tolerance(dtype));
      at::Tensor grad_weight = at::zeros({200}), grad_bias = at::zeros({200});
      const auto grad = norm_dropout_backward(c.grad, want, c.weight, keys, rate(0.1), grad_weight, grad_bias);
      EXPECT_LT(difference(grad, want_grad), tolerance(dtype));
      // The reference rounds the dropped-out gradient to storage nowhere either: only summation order differs.
      EXPECT_LT(difference(grad_weight, want_weight), 5e-6);
      EXPECT_LT(difference(grad_bias, want_bias), 5e-6);
    });
  }
}

TEST(NormKernel, ThreadsChangeNothing) {
  const Case c = make_case(384, at::kFloat, mixed_lengths(60));
  const auto& keys = c.packed.keys;
  expect_same_for_threads([&] {
    const auto forward = dropout_add_norm(c.x, c.residual, c.weight, c.bias, kEps, keys, rate(0.1));
    at::Tensor grad_weight = at::zeros({384}), grad_bias = at::zeros({384});
    const auto grad = dropout_add_norm_backward(c.grad, forward, c.weight, keys, rate(0.1), grad_weight, grad_bias);
    return std::vector<at::Tensor>{forward.y,     forward.sum, forward.stats, grad.x,
                                   grad.residual, grad_weight, grad_bias};
  });
}

TEST(NormKernel, ChoiceOfReferenceIsObeyed) {
  const Case c = make_case(100, at::kFloat);
  set_kernel_choices({.norm = KernelChoice::kReference});
  const auto got = dropout_add_norm(c.x, c.residual, c.weight, c.bias, kEps, c.packed.keys, rate(0.1));
  set_kernel_choices({});
  const auto want = reference::dropout_add_norm(c.x, c.residual, c.weight, c.bias, kEps, c.packed.keys, rate(0.1));
  EXPECT_TRUE(at::equal(got.y, want.y));
}

}  // namespace
}  // namespace vixen
