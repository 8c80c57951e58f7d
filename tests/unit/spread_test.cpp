// The spread of a batch's embeddings against its definition, and when a collapse is said.
#include "train/spread.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace vixen {
namespace {

at::Tensor unit_rows(int64_t n, int64_t d) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(4);
  const auto rows = at::randn({n, d}, generator);
  return rows / rows.norm(2, 1, true);
}

TEST(Spread, IsTheMeanOfCosinesAndTheParticipationRatio) {
  for (const auto& [n, d] : {std::pair{40, 7}, std::pair{7, 40}}) {
    const auto x = unit_rows(n, d);
    const auto spread = spread_of(x);
    double cosines = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        if (i != j) cosines += x[i].dot(x[j]).item<double>();
    EXPECT_NEAR(spread.mean_cosine.item<double>(), cosines / (n * (n - 1)), 1e-6);
    const auto values = at::linalg_eigvalsh(x.t().matmul(x).to(at::kDouble) / n);
    EXPECT_NEAR(spread.effective_rank.item<double>(), (values.sum().square() / values.square().sum()).item<double>(),
                1e-4);
  }
  const auto one = at::ones({9, 4}) / 2;
  EXPECT_NEAR(spread_of(one).mean_cosine.item<double>(), 1, 1e-6);
  EXPECT_NEAR(spread_of(one).effective_rank.item<double>(), 1, 1e-5);
  EXPECT_NEAR(spread_of(at::eye(6)).effective_rank.item<double>(), 6, 1e-5);
}

TEST(CollapseWatch, WarnsOnceOfEmbeddingsThatComeTogether) {
  CollapseWatch watch;
  EXPECT_FALSE(watch.look(0.9, 0.92, 10));
  EXPECT_FALSE(watch.look(0.999, 0.9995, 20)) << "a single look may be chance";
  const auto warning = watch.look(0.9995, 0.9999, 30);
  ASSERT_TRUE(warning);
  EXPECT_NE(warning->find("step 30"), std::string::npos);
  EXPECT_NE(warning->find("train.batch_size"), std::string::npos);
  EXPECT_FALSE(watch.look(0.9999, 0.9999, 40)) << "once";
}

TEST(CollapseWatch, IsQuietWhereARunBeganNearOrOneSideStaysApart) {
  CollapseWatch near;
  for (int step = 10; step < 100; step += 10) EXPECT_FALSE(near.look(0.998, 0.998, step));
  CollapseWatch half;
  EXPECT_FALSE(half.look(0.5, 0.5, 10));
  for (int step = 20; step < 100; step += 10) EXPECT_FALSE(half.look(0.9999, 0.6, step));
}

}  // namespace
}  // namespace vixen
