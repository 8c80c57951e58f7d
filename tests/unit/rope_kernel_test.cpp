// Rotary positions and the norm of heads: against Hugging Face's formulas written out in double, back and forth, and
// against finite differences.
#include <cmath>

#include "kernels/reference.hpp"
#include "kernels/rope.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

constexpr double kEps = 1e-6;

/// float32 [P, d]: cos | sin of p * 10000^(-2i / d).
at::Tensor angle_table(int64_t positions, int64_t head_dim) {
  const at::Tensor frequencies =
      at::pow(10000.0, -at::arange(head_dim / 2, at::kDouble) * 2 / static_cast<double>(head_dim));
  const at::Tensor angles = at::outer(at::arange(positions, at::kDouble), frequencies);
  return at::cat({angles.cos(), angles.sin()}, 1).to(at::kFloat);
}

/// x [T, heads, d] cos + rotate_half(x) sin, in double.
at::Tensor rotated(const at::Tensor& x, const at::Tensor& position_ids, const at::Tensor& table) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor angles = table.to(at::kDouble).index_select(0, position_ids).unsqueeze(1);
  const at::Tensor cosine = angles.narrow(2, 0, half).repeat({1, 1, 2});
  const at::Tensor sine = angles.narrow(2, half, half).repeat({1, 1, 2});
  const at::Tensor wide = x.to(at::kDouble);
  return wide * cosine + at::cat({-wide.narrow(2, half, half), wide.narrow(2, 0, half)}, 2) * sine;
}

struct Case {
  at::Tensor qkv, position_ids, table;
  AttentionShape shape;
  int64_t head_dim = 0;
  int64_t rotated_columns() const { return (shape.heads + shape.key_value_heads()) * head_dim; }
};

Case make_case(int64_t kv_heads, int64_t sharing, int64_t head_dim, at::ScalarType dtype) {
  const Packed p = pack({1, 20, 7});
  const int64_t heads = kv_heads * sharing;
  Case c;
  c.qkv = random({p.positions, (heads + 2 * kv_heads) * head_dim}, 1, dtype);
  c.position_ids = p.keys.position.to(at::kLong) + 3;
  c.table = angle_table(32, head_dim);
  c.shape = {.heads = heads, .max_seqlen = 20, .kv_heads = kv_heads, .causal = true};
  c.head_dim = head_dim;
  return c;
}

TEST(RopeKernel, RotatesQueriesAndKeysAsRotateHalf) {
  for (const auto dtype : kStorages) {
    for (const int64_t head_dim : {2, 16, 64, 80, 128}) {
      for (const int64_t sharing : {1, 3, 7}) {
        const Case c = make_case(2, sharing, head_dim, dtype);
        const int64_t columns = c.rotated_columns(), rows = c.qkv.size(0);
        const at::Tensor heads = c.qkv.narrow(1, 0, columns).view({rows, -1, head_dim});
        const at::Tensor want = rotated(heads, c.position_ids, c.table).view({rows, columns});
        const auto check = [&](auto&& rope) {
          at::Tensor got = c.qkv.clone();
          rope(got, c.position_ids, c.table, c.shape, false);
          EXPECT_LT(difference(got.narrow(1, 0, columns), want), dtype == at::kFloat ? 1e-6 : tolerance(dtype));
          const int64_t rest = c.qkv.size(1) - columns;
          EXPECT_TRUE(at::equal(got.narrow(1, columns, rest), c.qkv.narrow(1, columns, rest)));
          rope(got, c.position_ids, c.table, c.shape, true);
          EXPECT_LT(difference(got, c.qkv), dtype == at::kFloat ? 1e-6 : 2 * tolerance(dtype));
        };
        check(reference::apply_rope);
        for_each_isa([&](const char*) { check(apply_rope); });
      }
    }
  }
}

TEST(RopeKernel, TheInverseIsTheGradient) {
  const Case c = make_case(2, 3, 16, at::kFloat);
  at::Tensor forward = c.qkv.clone(), back = random(c.qkv.sizes(), 2);
  const at::Tensor grad = back.clone();
  apply_rope(forward, c.position_ids, c.table, c.shape, false);
  apply_rope(back, c.position_ids, c.table, c.shape, true);
  // A linear map R: <R x, g> = <x, R' g>, row by row.
  const at::Tensor left = (forward.to(at::kDouble) * grad).sum(1), right = (c.qkv.to(at::kDouble) * back).sum(1);
  EXPECT_LT(difference(left, right), 1e-6);
}

TEST(RopeKernel, PositionsOutsideTheTableAreRefused) {
  Case c = make_case(1, 1, 16, at::kFloat);
  c.position_ids[5] = 32;
  EXPECT_ANY_THROW(apply_rope(c.qkv, c.position_ids, c.table, c.shape, false));
}

TEST(RopeKernel, ThreadsChangeNothing) {
  const Case c = make_case(3, 3, 64, at::kBFloat16);
  expect_same_for_threads([&] {
    at::Tensor qkv = c.qkv.clone();
    apply_rope(qkv, c.position_ids, c.table, c.shape, false);
    return std::vector<at::Tensor>{qkv};
  });
}

/// q and k heads normalised, in double.
at::Tensor normed(const at::Tensor& qkv, const at::Tensor& q_weight, const at::Tensor& k_weight, const Case& c) {
  const at::Tensor heads = qkv.to(at::kDouble).view({qkv.size(0), -1, c.head_dim});
  const int64_t kv_heads = c.shape.key_value_heads();
  const auto norm = [&](const at::Tensor& x, const at::Tensor& weight) {
    return x / (x.square().mean(2, true) + kEps).sqrt() * weight.to(at::kDouble);
  };
  return at::cat({norm(heads.narrow(1, 0, c.shape.heads), q_weight),
                  norm(heads.narrow(1, c.shape.heads, kv_heads), k_weight),
                  heads.narrow(1, c.shape.heads + kv_heads, kv_heads)},
                 1)
      .view({qkv.size(0), -1});
}

TEST(HeadNorm, FollowsTheFormula) {
  for (const auto dtype : kStorages) {
    const Case c = make_case(2, 3, 16, dtype);
    const at::Tensor q_weight = 1 + 0.2 * random({16}, 3), k_weight = 1 + 0.2 * random({16}, 4);
    const auto check = [&](const HeadNormResult& got) {
      EXPECT_EQ(got.qkv.scalar_type(), dtype);
      EXPECT_EQ(got.rstd.sizes(), (at::IntArrayRef{c.qkv.size(0), 8}));
      EXPECT_LT(difference(got.qkv, normed(c.qkv, q_weight, k_weight, c)),
                dtype == at::kFloat ? 1e-6 : tolerance(dtype));
      EXPECT_TRUE(at::equal(got.qkv.narrow(1, c.rotated_columns(), 32), c.qkv.narrow(1, c.rotated_columns(), 32)));
    };
    check(reference::head_norm(c.qkv, q_weight, k_weight, kEps, c.shape));
    for_each_isa([&](const char*) { check(head_norm(c.qkv, q_weight, k_weight, kEps, c.shape)); });
  }
}

TEST(HeadNorm, FusedBackwardIsReference) {
  for (const auto dtype : kStorages) {
    for (const int64_t head_dim : {6, 64, 80, 128}) {
      const Case c = make_case(2, 3, head_dim, dtype);
      const at::Tensor q_weight = 1 + 0.2 * random({head_dim}, 3), k_weight = 1 + 0.2 * random({head_dim}, 4);
      const at::Tensor grad = random(c.qkv.sizes(), 5, dtype);
      const at::Tensor rstd = reference::head_norm(c.qkv, q_weight, k_weight, kEps, c.shape).rstd;
      at::Tensor want_q = at::ones({head_dim}), want_k = at::ones({head_dim});
      const at::Tensor want =
          reference::head_norm_backward(grad, c.qkv, rstd, q_weight, k_weight, c.shape, want_q, want_k);
      for_each_isa([&](const char*) {
        at::Tensor grad_q = at::ones({head_dim}), grad_k = at::ones({head_dim});
        const at::Tensor got = head_norm_backward(grad, c.qkv, rstd, q_weight, k_weight, c.shape, grad_q, grad_k);
        EXPECT_LT(difference(got, want), tolerance(dtype)) << head_dim;
        EXPECT_LT(difference(grad_q, want_q), 3e-6) << head_dim;
        EXPECT_LT(difference(grad_k, want_k), 3e-6) << head_dim;
      });
    }
  }
}

TEST(HeadNorm, ThreadsChangeNothing) {
  const Case c = make_case(2, 3, 64, at::kFloat);
  const at::Tensor qkv = random({500, c.qkv.size(1)}, 6), grad = random({500, c.qkv.size(1)}, 5);
  const at::Tensor weight = 1 + 0.2 * random({64}, 3);
  expect_same_for_threads([&] {
    const HeadNormResult forward = head_norm(qkv, weight, weight, kEps, c.shape);
    at::Tensor grad_q = at::zeros({64}), grad_k = at::zeros({64});
    const at::Tensor back = head_norm_backward(grad, qkv, forward.rstd, weight, weight, c.shape, grad_q, grad_k);
    return std::vector<at::Tensor>{forward.qkv, forward.rstd, back, grad_q, grad_k};
  });
}

TEST(HeadNorm, BackwardIsTheDerivative) {
  Case c = make_case(1, 3, 4, at::kFloat);
  c.qkv = c.qkv.slice(0, 0, 3).contiguous();
  const at::Tensor grad = random(c.qkv.sizes(), 5), q_weight = 1 + 0.2 * random({4}, 3),
                   k_weight = 1 + 0.2 * random({4}, 4);
  const HeadNormResult forward = head_norm(c.qkv, q_weight, k_weight, kEps, c.shape);
  at::Tensor grad_q = at::ones({4}), grad_k = at::ones({4});
  const at::Tensor got = head_norm_backward(grad, c.qkv, forward.rstd, q_weight, k_weight, c.shape, grad_q, grad_k);
  EXPECT_TRUE(at::equal(head_norm_backward(grad, c.qkv, forward.rstd, q_weight, k_weight, c.shape, {}, {}), got));
  at::Tensor only_k = at::ones({4});
  head_norm_backward(grad, c.qkv, forward.rstd, q_weight, k_weight, c.shape, {}, only_k);
  EXPECT_TRUE(at::equal(only_k, grad_k));
  const auto value = [&](const at::Tensor& qkv, const at::Tensor& q, const at::Tensor& k) {
    return (normed(qkv, q, k, c) * grad).sum().item<double>();
  };
  expect_derivative(got, c.qkv, 1e-6, 5e-6, [&](const at::Tensor& x) { return value(x, q_weight, k_weight); });
  // Parameter gradients are added to what was there.
  expect_derivative(grad_q - 1, q_weight, 1e-6, 5e-6, [&](const at::Tensor& w) { return value(c.qkv, w, k_weight); });
  expect_derivative(grad_k - 1, k_weight, 1e-6, 5e-6, [&](const at::Tensor& w) { return value(c.qkv, q_weight, w); });
}

}  // namespace
}  // namespace vixen
