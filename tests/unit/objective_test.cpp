// Every row of the table of objectives: explicit gradients against differences, columns beyond the batch's own, costs.
#include "objective/objective.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "config/keys.hpp"
#include "fixtures/pairs.hpp"

namespace vixen {
namespace {

constexpr int64_t kB = 7, kD = 5;

struct Batch {
  at::Tensor q, u, z, dense;
};

at::Tensor unit_rows(int64_t n, at::Generator& random) {
  const auto rows = at::randn({n, kD}, random, at::kDouble);
  return rows / rows.norm(2, 1, true);
}

// Each query has its own column; some have others too, extra ones among them.
Batch batch(int64_t m, uint64_t seed) {
  auto random = at::make_generator<at::CPUGeneratorImpl>(seed);
  Batch made{unit_rows(kB, random), unit_rows(m, random), unit_rows(m, random), at::eye(kB, m, at::kBool)};
  made.dense[1][4] = made.dense[2][0] = made.dense[5][3] = true;
  if (m > kB) made.dense[3][kB] = made.dense[4][kB] = true;
  return made;
}

// Draws that are no fixed ones: the last partner of each.
std::vector<at::Tensor> last_partners(const Objective& objective, const at::Tensor& dense) {
  std::vector<at::Tensor> draws;
  for (const DrawSpec& spec : objective.draws()) {
    const auto table = (spec.side == Side::kQueries ? dense : dense.t()).to(at::kLong);
    const auto places = table * at::arange(1, table.size(1) + 1);
    draws.push_back(std::get<0>(places.max(1)) - 1);
  }
  return draws;
}

class EveryObjective : public ::testing::TestWithParam<size_t> {
 protected:
  static Config config() {
    Config config;
    config.train.method = static_cast<Method>(GetParam());
    config.loss.negatives = 3;
    config.loss.margin_min = config.loss.margin_max;  // a margin takes no gradient: differences need a constant one
    return config;
  }
  std::unique_ptr<Objective> objective = make_objective(config());

  ObjectiveResult evaluate(const Batch& b) const {
    return objective->evaluate({b.q, b.u, objective->uses_prototypes() ? b.z : at::Tensor(), test::pairs_of(b.dense),
                                last_partners(*objective, b.dense)});
  }
};

TEST_P(EveryObjective, GradientsAreThoseOfTheLoss) {
  for (const int64_t m : {kB, kB + 4}) {
    Batch made = batch(m, 3);
    const auto result = evaluate(made);
    EXPECT_EQ(result.grad_z.defined(), objective->uses_prototypes());
    double total = 0;
    for (auto [tensor, grad] :
         {std::pair(&made.q, &result.grad_q), {&made.u, &result.grad_u}, {&made.z, &result.grad_z}}) {
      if (!grad->defined()) continue;
      ASSERT_EQ(grad->sizes(), tensor->sizes());
      for (int64_t element = 0; element < tensor->numel(); ++element) {
        constexpr double kStep = 1e-6;
        auto value = tensor->view(-1)[element];
        const double at_x = value.item<double>();
        value.fill_(at_x + kStep);
        const double above = evaluate(made).loss.item<double>();
        value.fill_(at_x - kStep);
        const double below = evaluate(made).loss.item<double>();
        value.fill_(at_x);
        EXPECT_NEAR(grad->reshape(-1)[element].item<double>(), (above - below) / (2 * kStep), 1e-7)
            << "M = " << m << ", element " << element;
        total += std::abs(above - below);
      }
    }
    EXPECT_GT(total, 0);
  }
}

// Columns so far from every query that nobody's hardest negatives include them change nothing.
TEST_P(EveryObjective, ColumnsOutOfReachChangeNothing) {
  const auto q = at::cat({at::ones({kB, 1}, at::kDouble), 0.1 * at::randn({kB, kD - 1}, at::kDouble)}, 1);
  Batch plain = batch(kB, 4);
  plain.q = q / q.norm(2, 1, true);
  plain.u.select(1, 0).abs_();
  plain.z.select(1, 0).abs_();
  Batch more = plain;
  auto far = at::zeros({3, kD}, at::kDouble);
  far.select(1, 0).fill_(-1);
  more.u = at::cat({plain.u, far}, 0);
  more.z = at::cat({plain.z, far}, 0);
  more.dense = at::cat({plain.dense, at::zeros({kB, 3}, at::kBool)}, 1);
  const auto expected = evaluate(plain), found = evaluate(more);
  EXPECT_NEAR(found.loss.item<double>(), expected.loss.item<double>(), 1e-12);
  ASSERT_EQ(found.terms.size(), expected.terms.size());
  for (size_t i = 0; i < found.terms.size(); ++i)
    EXPECT_NEAR(found.terms[i].value.item<double>(), expected.terms[i].value.item<double>(), 1e-12)
        << found.terms[i].name;
  EXPECT_LT((found.grad_q - expected.grad_q).abs().max().item<double>(), 1e-12);
  EXPECT_EQ(found.grad_u.narrow(0, kB, 3).abs().max().item<double>(), 0);
}

TEST_P(EveryObjective, StatesItsCosts) {
  EXPECT_EQ(objective->bytes(20, 30), 3 * objective->bytes(20, 10)) << "linear in M";
  EXPECT_GE(objective->bytes(20, 30), 20 * 30 * 5) << "scores and mask";
  EXPECT_GE(objective->flops(20, 30, 8), 3 * 2.0 * 20 * 30 * 8) << "scores and two gradients";
  EXPECT_GT(objective->traffic_bytes(20, 30), 0);
}

// A name of train.method without a row, or a row without a name, would show here.
INSTANTIATE_TEST_SUITE_P(Table, EveryObjective, ::testing::Range<size_t>(0, [] {
                           Config config;
                           return std::get<EnumField>(find_key("train.method")->field(config)).names.size();
                         }()));

}  // namespace
}  // namespace vixen
