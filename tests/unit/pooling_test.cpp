// Mean and last-position pooling and row normalisation, forward and backward.
#include "kernels/pooling.hpp"
#include "kernels/reference.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

TEST(Pooling, MeanOfEachSequence) {
  const Packed p = pack(mixed_lengths(30));
  for (const auto dtype : kStorages) {
    const at::Tensor x = random({p.positions, 70}, 1, dtype);
    std::vector<at::Tensor> means;
    for (int64_t i = 0; i + 1 < p.cu_seqlens.size(0); ++i)
      means.push_back(x.slice(0, p.cu_seqlens[i].item<int>(), p.cu_seqlens[i + 1].item<int>()).to(at::kDouble).mean(0));
    const at::Tensor want = at::stack(means);
    EXPECT_LT(difference(reference::mean_pool(x, p.cu_seqlens), want), 1e-6);
    for_each_isa([&](const char*) {
      const at::Tensor got = mean_pool(x, p.cu_seqlens);
      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LT(difference(got, want), 1e-6);
    });
  }
}

TEST(Pooling, BackwardSharesTheGradient) {
  const Packed p = pack({3, 1, 8});
  const at::Tensor grad = random({3, 21}, 2);
  for (const auto dtype : kStorages) {
    const at::Tensor want = reference::mean_pool_backward(grad, p.cu_seqlens, p.positions, dtype);
    // The adjoint of the mean: <mean(x), g> = <x, backward(g)>.
    const at::Tensor x = random({p.positions, 21}, 3);
    const double left = (reference::mean_pool(x, p.cu_seqlens) * grad).sum().item<double>();
    EXPECT_NEAR(left, (x * want.to(at::kFloat)).sum().item<double>(), dtype == at::kFloat ? 1e-5 : 5e-2);
    for_each_isa([&](const char*) {
      const at::Tensor got = mean_pool_backward(grad, p.cu_seqlens, p.positions, dtype);
      EXPECT_EQ(got.scalar_type(), dtype);
      EXPECT_LT(difference(got, want), tolerance(dtype));
    });
  }
}

TEST(Pooling, LastPositionOfEachSequence) {
  const std::vector<int64_t> lengths{3, 1, 8}, last{2, 3, 11};
  const Packed p = pack(lengths);
  const at::Tensor grad = random({3, 21}, 2);
  for (const auto dtype : kStorages) {
    const at::Tensor x = random({p.positions, 21}, 3, dtype), pooled = last_pool(x, p.cu_seqlens);
    const at::Tensor back = last_pool_backward(grad, p.cu_seqlens, p.positions, dtype);
    EXPECT_EQ(pooled.scalar_type(), at::kFloat);
    EXPECT_EQ(back.scalar_type(), dtype);
    at::Tensor rest = back.clone();
    for (int64_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(at::equal(pooled[i], x[last[i]].to(at::kFloat)));
      EXPECT_TRUE(at::equal(back[last[i]], grad[i].to(dtype)));
      rest[last[i]].zero_();
    }
    EXPECT_EQ(rest.count_nonzero().item<int64_t>(), 0);
  }
}

TEST(Pooling, OnePositionOfEachSequence) {
  const std::vector<int64_t> picked{1, 3, 4};
  const at::Tensor positions = at::tensor(picked), grad = random({3, 21}, 2);
  for (const auto dtype : kStorages) {
    const at::Tensor x = random({12, 21}, 3, dtype), pooled = pick_pool(x, positions);
    const at::Tensor back = pick_pool_backward(grad, positions, 12, dtype);
    EXPECT_EQ(pooled.scalar_type(), at::kFloat);
    EXPECT_EQ(back.scalar_type(), dtype);
    EXPECT_EQ(back.count_nonzero().item<int64_t>(), grad.to(dtype).count_nonzero().item<int64_t>());
    for (int64_t i = 0; i < 3; ++i) {
      const int64_t at = picked[static_cast<size_t>(i)];
      EXPECT_TRUE(at::equal(pooled[i], x[at].to(at::kFloat)));
      EXPECT_TRUE(at::equal(back[at], grad[i].to(dtype)));
    }
  }
}

TEST(Pooling, NormalizedRowsHaveNormOne) {
  at::Tensor x = random({5, 33}, 4);
  x[2].zero_();
  const Normalized n = normalize_rows(x);
  EXPECT_TRUE(at::equal(n.y[2], at::zeros({33})));
  EXPECT_LT(difference(n.y, x.to(at::kDouble) / x.to(at::kDouble).norm(2, {1}, true).clamp_min(1e-12)), 1e-6);
}

TEST(Pooling, NormalizeBackwardIsTheDerivative) {
  const at::Tensor x = random({3, 7}, 5), grad = random({3, 7}, 6);
  const at::Tensor got = normalize_rows_backward(grad, normalize_rows(x));
  const auto value = [&](const at::Tensor& rows) {
    return (rows / rows.norm(2, {1}, true) * grad.to(at::kDouble)).sum().item<double>();
  };
  expect_derivative(got, x, 1e-6, 1e-6, value);
}

TEST(Pooling, ThreadsChangeNothing) {
  const Packed p = pack(mixed_lengths(50));
  const at::Tensor x = random({p.positions, 64}, 7);
  expect_same_for_threads([&] {
    const at::Tensor pooled = mean_pool(x, p.cu_seqlens);
    return std::vector<at::Tensor>{pooled, mean_pool_backward(pooled, p.cu_seqlens, p.positions, at::kFloat)};
  });
}

}  // namespace
}  // namespace vixen
