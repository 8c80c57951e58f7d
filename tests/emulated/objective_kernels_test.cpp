// The objective's CUDA kernels, emulated, against their references: hardest negatives to the bit, losses and slopes to
// rounding, in three orders of threads; bytes.
#include "emulated/comparison.hpp"
#include "objective/device_kernels.hpp"
#include "objective/objective.hpp"

namespace vixen::emulated {
namespace {

using EmulatedObjective = LentToCpu<lend_objective_kernels, emulated_cuda_objective_kernels>;

struct Rows {
  Rows(int64_t rows, int64_t columns, double relevant, uint64_t seed) {
    auto random = at::make_generator<at::CPUGeneratorImpl>(seed);
    scores = at::rand({rows, columns}, random) * 2 - 1;
    mask = at::rand({rows, columns}, random) < relevant;
    positive = at::randint(columns, {rows}, random, at::kLong);
  }
  at::Tensor scores, mask, positive;
};

constexpr std::pair<int64_t, int64_t> kShapes[] = {{3, 1}, {4, 7}, {2, 40}, {3, 257}, {2, 1300}};

TEST(EmulatedObjectiveKernels, HardestNegatives) {
  for (const auto& [n, columns] : kShapes)
    for (const int64_t k : {1, 10, 256})
      for (const double relevant : {0.0, 0.3, 1.0}) {
        SCOPED_TRACE(testing::Message() << columns << " columns, " << k << " of them, " << relevant << " relevant");
        const Rows rows(n, columns, relevant, 1);
        const auto body = [&] {
          const auto found = hardest_negatives(rows.scores, rows.mask, k);
          return Results{found.columns, found.valid};
        };
        const Results want = body();
        Counts counted;
        const EmulatedObjective emulated;
        const Results got = in_all_orders(body, &counted);
        EXPECT_TRUE(got[1].equal(want[1]));
        EXPECT_TRUE(got[0].masked_select(want[1]).equal(want[0].masked_select(want[1])));
        // Those of a row differ, relevant ones included.
        EXPECT_TRUE(std::get<0>(got[0].sort(1)).diff(1, 1).gt(0).all().item<bool>());
        const int64_t most = std::min(k, columns),
                      threads = std::max<int64_t>(
                          32, std::min<int64_t>(256, (std::max(most, (columns + 3) / 4) + 31) / 32 * 32));
        EXPECT_LE(counted.loaded_bytes, n * (5 * columns + 5 * most * (columns / threads + 1)));
        EXPECT_EQ(counted.stored_bytes, 9 * n * most);
      }
}

TEST(EmulatedObjectiveKernels, EqualScoresGoToTheLowerColumn) {
  const at::Tensor scores = at::tensor({0.5f, 0.7f, 0.7f, 0.5f, 0.7f, 0.1f}).view({1, 6});
  const at::Tensor mask = at::zeros({1, 6}, at::kBool);
  const EmulatedObjective emulated;
  const auto found = hardest_negatives(scores, mask, 5);
  EXPECT_TRUE(found.columns.equal(at::tensor({1, 2, 4, 0, 3}, at::kLong).view({1, 5})));
}

TEST(EmulatedObjectiveKernels, LossesOfRows) {
  double worst = 0;
  for (const auto& shape : kShapes)
    for (const int64_t k : {1, 10, 100})
      for (const double relevant : {0.0, 0.3, 1.0})
        for (const bool has_gaps : {false, true})
          for (const auto tie : {TieGradient::kHalf, TieGradient::kZero}) {
            const int64_t n = shape.first, columns = shape.second;
            SCOPED_TRACE(testing::Message() << columns << " columns, " << k << " negatives, " << relevant
                                            << " relevant, gaps " << has_gaps);
            Rows rows(n, columns, relevant, 2);
            if (has_gaps) rows.positive[1] = -1;
            LossConfig config;
            config.negatives = k;
            config.tie_gradient = tie;
            const auto body = [&] {
              const auto found = row_losses(rows.scores, rows.mask, rows.positive, has_gaps, config);
              // By column, as the order of equal ones is nobody's.
              const auto dense = at::zeros({n, columns}).scatter_add_(1, found.columns, found.slopes);
              return Results{dense, found.positive_slope, found.values};
            };
            const Results want = body();
            const EmulatedObjective emulated;
            Counts counted;
            const Results got = in_all_orders(body, &counted);
            EXPECT_EQ(counted.stored_bytes, n * (12 * std::min(k, columns) + 8));
            for (size_t i = 0; i < got.size(); ++i) {
              const double apart = test::difference(got[i], want[i]);
              EXPECT_LT(apart, test::tolerance(at::kFloat)) << "result " << i;
              worst = std::max(worst, apart);
            }
          }
  note_difference("row_losses", at::kFloat, worst);
}

// All negatives far below the positive, some exactly at the margin, and a row of NaN.
TEST(EmulatedObjectiveKernels, EdgesOfTheMargin) {
  at::Tensor scores = at::full({4, 12}, -0.9f);
  scores[0][0] = 0.9f;
  scores.select(0, 1).fill_(0.25f);  // violation = margin_min
  scores[2].copy_(at::linspace(-0.5, 0.5, 12));
  at::Tensor mask = at::zeros({4, 12}, at::kBool);
  mask.select(1, 0).fill_(true);
  const at::Tensor positive = at::zeros({4}, at::kLong);
  LossConfig config;
  config.negatives = 5;
  const auto body = [&] {
    const auto found = row_losses(scores, mask, positive, false, config);
    return Results{found.slopes.sum(1), found.positive_slope, found.values};
  };
  const Results want = body();
  const EmulatedObjective emulated;
  const Results got = in_all_orders(body);
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_LT(test::difference(got[i], want[i]), test::tolerance(at::kFloat)) << "result " << i;
  scores[3].fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(body()[2][3].isnan().item<bool>()) << "a run that diverges shows it";
}

TEST(EmulatedObjectiveKernels, Entries) {
  const Rows rows(5, 30, 0.2, 3);
  const auto found = hardest_negatives(rows.scores, rows.mask, 7);
  const at::Tensor values = at::randn({5, 7}, at::make_generator<at::CPUGeneratorImpl>(4));
  const auto body = [&] {
    at::Tensor sums = at::ones({5, 30}), transposed = at::ones({30, 5});
    add_entries(sums, found.columns, values);
    add_entries(transposed.t(), found.columns, values);
    return Results{sums, transposed};
  };
  const Results want = body();
  Counts counted;
  const EmulatedObjective emulated;
  const Results got = in_all_orders(body, &counted);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(same_bits(got[i], want[i]));
  EXPECT_EQ(counted.loaded_bytes, 2 * 5 * 7 * 16);
  EXPECT_EQ(counted.stored_bytes, 2 * 5 * 7 * 4);
}

TEST(EmulatedObjectiveKernels, RowsOfNobody) {
  const EmulatedObjective emulated;
  const Rows rows(0, 30, 0.2, 3);
  EXPECT_EQ(hardest_negatives(rows.scores, rows.mask, 7).columns.sizes(), (at::IntArrayRef{0, 7}));
  EXPECT_EQ(row_losses(rows.scores, rows.mask, rows.positive, true, {}).values.numel(), 0);
}

}  // namespace
}  // namespace vixen::emulated
