// Augmented lists against the formula written out over dense matrices, and their edges.
#include "retrieval/augment.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <span>
#include <vector>

#include "data/pairs.hpp"
#include "fixtures/single_rank.hpp"
#include "retrieval/retriever.hpp"

namespace vixen {
namespace {

constexpr int64_t kQueries = 40, kLabels = 60, kTraining = 90, kWidth = 12;

at::Tensor unit_rows(int64_t rows, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto values = at::randn({rows, kWidth}, generator);
  return values / values.norm(2, 1, true);
}

class Augment : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int64_t query = 0; query < kTraining; ++query) {
      for (int64_t label = query % 7; label < kLabels; label += 13 + query % 5)
        values_.push_back(static_cast<int32_t>(label));
      offsets_.push_back(static_cast<int64_t>(values_.size()));
    }
    config_.lambda = 0.3;
    config_.labels = 20;
    config_.queries = 7;
    config_.temperature = 0.1;
  }
  AugmentSource source() const {
    std::vector<int64_t> counts(kLabels);
    count_columns({offsets_, values_}, counts);
    return {{offsets_, values_}, std::move(counts)};
  }
  // Scores of all labels for one query, over dense float64 matrices.
  at::Tensor dense(const at::Tensor& query) const {
    const auto s = labels_.matmul(query).to(at::kDouble), t = training_.matmul(query).to(at::kDouble);
    auto counts = at::zeros({kLabels}, at::kDouble), y = at::zeros({kTraining, kLabels}, at::kDouble);
    for (int64_t row = 0; row < kTraining; ++row)
      for (int64_t i = offsets_[static_cast<size_t>(row)]; i < offsets_[static_cast<size_t>(row) + 1]; ++i) {
        const int64_t label = values_[static_cast<size_t>(i)];
        y[row][label] = 1;
        counts[label] += 1;
      }
    const auto logits_l = s / config_.temperature + config_.prior * counts.clamp_min(1).log();
    const auto logits_q = t / config_.temperature;
    const auto best_l = std::get<1>(s.topk(config_.labels)), best_q = std::get<1>(t.topk(config_.queries));
    const auto neighbours = config_.lambda > 0;
    const auto all = neighbours ? at::cat({logits_l.index_select(0, best_l), logits_q.index_select(0, best_q)})
                                : logits_l.index_select(0, best_l);
    const auto p = at::softmax(all, 0);
    auto scores = at::zeros({kLabels}, at::kDouble);
    scores.index_add_(0, best_l, (1 - config_.lambda) * p.narrow(0, 0, config_.labels));
    if (neighbours)
      scores += config_.lambda * p.narrow(0, config_.labels, config_.queries).matmul(y.index_select(0, best_q));
    return scores;
  }
  void expect_formula() {
    test::SingleRank comm;
    Retriever retriever(labels_, IndexConfig{}, comm);
    retriever.augment(config_, config_.lambda > 0 ? training_ : at::Tensor(), source());
    constexpr int64_t kBest = 15;
    const auto found = retriever.retrieve(queries_, kBest);
    for (int64_t row = 0; row < kQueries; ++row) {
      const auto expected = dense(queries_[row]);
      for (int64_t place = 0; place < kBest; ++place) {
        const auto id = found.ids[row][place].item<int64_t>();
        if (id < 0) {
          EXPECT_EQ((expected > 0).sum().item<int64_t>(), place);
          break;
        }
        const double score = found.scores[row][place].item<double>();
        EXPECT_NEAR(score, expected[id].item<double>(), 1e-6);
        EXPECT_NEAR(score, std::get<0>(expected.topk(kBest))[place].item<double>(), 1e-6) << "the best come first";
      }
    }
  }

  at::Tensor queries_ = unit_rows(kQueries, 1), labels_ = unit_rows(kLabels, 2), training_ = unit_rows(kTraining, 3);
  std::vector<int64_t> offsets_{0};
  std::vector<int32_t> values_;
  AugmentConfig config_;
};

TEST_F(Augment, IsTheFormula) {
  expect_formula();
}

TEST_F(Augment, ThePriorIsAddedToLogits) {
  config_.prior = 0.7;
  expect_formula();
  config_.lambda = 0;
  expect_formula();
}

TEST_F(Augment, NeighboursAlone) {
  config_.lambda = 1;
  expect_formula();
}

// A label that is filtered comes back by no neighbour.
TEST_F(Augment, FilteredLabelsStayAway) {
  config_.labels = kLabels - 2;
  static const std::vector<int32_t> kFiltered = {3, 17};
  PairFilter filter;
  filter.widest = 2;
  filter.labels = [](int64_t) { return std::span<const int32_t>(kFiltered); };
  test::SingleRank comm;
  Retriever retriever(labels_, IndexConfig{}, comm);
  retriever.augment(config_, training_, source());
  const auto found = retriever.retrieve(queries_, 50, filter);
  EXPECT_EQ((found.ids == 3).sum().item<int64_t>() + (found.ids == 17).sum().item<int64_t>(), 0);
  EXPECT_GT((found.ids >= 0).sum().item<int64_t>(), 0);
}

TEST_F(Augment, ListsMayEnd) {
  TopK labels = empty_top_k(2, 4), near = empty_top_k(2, 3);
  labels.ids[0][0] = 5;
  labels.scores[0][0] = 0.5;
  const auto best = augmented(labels, near, source(), config_, 3);
  EXPECT_EQ(best.ids[0][0].item<int64_t>(), 5);
  EXPECT_NEAR(best.scores[0][0].item<double>(), 1 - config_.lambda, 1e-6);
  EXPECT_EQ(best.ids[0][1].item<int64_t>(), -1);
  EXPECT_EQ(best.ids[1][0].item<int64_t>(), -1);
  EXPECT_FALSE(augments(AugmentConfig{}));
}

}  // namespace
}  // namespace vixen
