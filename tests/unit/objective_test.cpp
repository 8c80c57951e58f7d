// Every row of the table of objectives: explicit gradients against differences, columns beyond the batch's own, costs,
// and the parts of ranks against the whole batch.
#include "objective/objective.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "config/keys.hpp"
#include "device/tracked_memory.hpp"
#include "fixtures/pairs.hpp"
#include "objective/partial_objective.hpp"

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
  for (const Side side : {Side::kQueries, Side::kColumns}) {
    if (!objective->asks(side)) continue;
    EXPECT_GE(objective->row_bytes(side, 30), 30 * 5);
    EXPECT_GE(objective->row_flops(side, 30, 8), 3 * 2.0 * 30 * 8);
    EXPECT_GT(objective->row_traffic_bytes(side, 30), 0);
  }
}

// A batch as batches are: unit rows that are alike, columns of which the queries' own come first, some of the extra
// ones relevant to nobody, a few queries with many relevant columns.
ObjectiveInput large_input(const Objective& objective, int64_t b, int64_t m, int64_t d, at::ScalarType dtype) {
  auto random = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(b + m));
  const auto rows = [&](int64_t n) {
    const auto x = at::randn({n, d}, random, at::kDouble) + 0.5;
    return (x / x.norm(2, 1, true)).to(dtype);
  };
  auto dense = at::logical_or(at::eye(b, m, at::kBool), at::rand({b, m}, random) < 0.03);
  dense.slice(1, b, m, 2).fill_(false);
  dense[b / 2].slice(0, 0, b).fill_(true);
  return {rows(b), rows(m), objective.uses_prototypes() ? rows(m) : at::Tensor(), test::pairs_of(dense),
          last_partners(objective, dense)};
}

// What W ranks make of a batch, each on its own, with the two sums over ranks between and behind.
ObjectiveResult by_ranks(const Objective& objective, const ObjectiveInput& input, int world_size, int64_t block_bytes) {
  const auto starts = pair_starts(input.positives, input.q.size(0));
  std::vector<std::unique_ptr<PartialObjective>> ranks;
  at::Tensor totals;
  for (int rank = 0; rank < world_size; ++rank) {
    ranks.push_back(std::make_unique<PartialObjective>(objective, input, starts,
                                                       batch_slice(input.q.size(0), rank, world_size),
                                                       batch_slice(input.u.size(0), rank, world_size), block_bytes));
    const auto sums = ranks.back()->sums();
    EXPECT_EQ(sums.scalar_type(), at::kDouble);
    totals = totals.defined() ? totals + sums : sums;
  }
  ObjectiveResult all;
  for (const auto& rank : ranks) {
    auto part = rank->finish(totals);
    if (!all.loss.defined()) {
      all = std::move(part);
      continue;
    }
    EXPECT_TRUE(part.loss.equal(all.loss)) << "every rank has the whole batch's loss";
    all.grad_q += part.grad_q;
    all.grad_u += part.grad_u;
    if (all.grad_z.defined()) all.grad_z += part.grad_z;
  }
  return all;
}

TEST_P(EveryObjective, RanksAndBlocksAddUpToTheWholeBatch) {
  constexpr int64_t kQueries = 29, kWidth = 6;
  for (const bool fixed : {false, true}) {
    auto settings = config();
    settings.loss = LossConfig{.negatives = 4, .fixed_positive = fixed};
    const auto made = make_objective(settings);
    for (const auto dtype : {at::kDouble, at::kFloat}) {
      for (const int64_t m : {kQueries, kQueries + 8}) {
        const auto input = large_input(*made, kQueries, m, kWidth, dtype);
        for (size_t i = 0; m > kQueries && i < input.draws.size(); ++i) {
          EXPECT_EQ(input.draws[i].min().item<int64_t>() < 0, made->draws()[i].side == Side::kColumns) << "gaps";
        }
        const auto expected = made->evaluate(input);
        const double rounding = dtype == at::kDouble ? 1e-12 : 2e-6;
        for (const int world_size : {1, 3, 31}) {  // 31: ranks without queries
          for (const int64_t block_bytes : {int64_t{1}, 3 * made->row_bytes(Side::kQueries, m), kScoreBlockBytes}) {
            const auto what = fmt::format("{}, M = {}, {} ranks, blocks of {} bytes{}", at::toString(dtype), m,
                                          world_size, block_bytes, fixed ? ", fixed positives" : "");
            const auto found = by_ranks(*made, input, world_size, block_bytes);
            const auto close = [&](const at::Tensor& a, const at::Tensor& b, const std::string& name) {
              ASSERT_EQ(a.defined(), b.defined()) << name;
              if (!a.defined()) return;
              ASSERT_EQ(a.sizes(), b.sizes()) << name;
              EXPECT_EQ(a.scalar_type(), dtype) << name;
              EXPECT_LE((a - b).abs().max().item<double>(), rounding * b.abs().max().item<double>())
                  << name << ": " << what;
            };
            close(found.loss, expected.loss, "loss");
            ASSERT_EQ(found.terms.size(), expected.terms.size());
            for (size_t i = 0; i < found.terms.size(); ++i) {
              EXPECT_EQ(found.terms[i].name, expected.terms[i].name);
              close(found.terms[i].value, expected.terms[i].value, found.terms[i].name);
            }
            close(found.grad_q, expected.grad_q, "grad_q");
            close(found.grad_u, expected.grad_u, "grad_u");
            close(found.grad_z, expected.grad_z, "grad_z");
          }
        }
      }
    }
  }
}

// The plan's figures against what is allocated, of the whole batch and of blocks; gradients are few beside the scores.
TEST_P(EveryObjective, TakesTheMemoryThatItStates) {
  track_tensor_memory();
  constexpr int64_t kQueries = 1200, kColumns = 1500, kWidth = 4;
  const auto made = make_objective(static_cast<Method>(GetParam()), LossConfig{});
  auto input = large_input(*made, kQueries, kColumns, kWidth, at::kFloat);
  const auto one_each = at::arange(kQueries, at::kLong);  // as triplet counts
  input.positives = at::stack({one_each, one_each});
  const auto peak = [](const auto& work) {
    const int64_t before = tensor_bytes();
    reset_peak_tensor_bytes();
    work();
    return static_cast<double>(peak_tensor_bytes() - before);
  };
  const double whole = peak([&] { made->evaluate(input); });
  EXPECT_NEAR(whole / static_cast<double>(made->bytes(kQueries, kColumns)), 1, 0.1);

  const auto starts = pair_starts(input.positives, kQueries);
  constexpr int64_t kBlock = 1 << 20;
  const double blocks = peak([&] {
    PartialObjective all(*made, input, starts, {0, kQueries}, {0, kColumns}, kBlock);
    all.finish(all.sums());
  });
  const auto stated = partial_bytes(*made, kQueries, kColumns, kQueries, kColumns, kBlock);
  const int64_t gradients = (kQueries + kColumns * (made->uses_prototypes() ? 2 : 1)) * kWidth * 4;
  EXPECT_NEAR(blocks / static_cast<double>(stated + gradients), 1, 0.15);
  EXPECT_LT(blocks, 0.3 * whole);
}

TEST(ObjectiveWay, FollowsTheSizeUnlessItIsSaid) {
  Config config;
  const auto way = [&](Method method, int64_t batch_size, int64_t columns) {
    config.train.method = method;
    config.train.batch_size = batch_size;
    return objective_way(config, *make_objective(config), columns);
  };
  EXPECT_EQ(way(Method::kPrime, 512, 512), ObjectiveWay::kReplicated);
  EXPECT_EQ(way(Method::kPrime, 4096, 4096), ObjectiveWay::kReplicated);
  EXPECT_EQ(way(Method::kPrime, 16384, 16384), ObjectiveWay::kSharded);
  EXPECT_EQ(way(Method::kPrime, 4096, 65536), ObjectiveWay::kSharded) << "columns count";
  EXPECT_EQ(way(Method::kNgame, 8192, 8192), ObjectiveWay::kReplicated) << "one matrix instead of several";
  config.train.objective = ObjectiveWay::kReplicated;
  EXPECT_EQ(way(Method::kPrime, 65536, 65536), ObjectiveWay::kReplicated);
  config.train.objective = ObjectiveWay::kSharded;
  EXPECT_EQ(way(Method::kPrime, 8, 8), ObjectiveWay::kSharded);
}

// A name of train.method without a row, or a row without a name, would show here.
INSTANTIATE_TEST_SUITE_P(Table, EveryObjective, ::testing::Range<size_t>(0, [] {
                           Config config;
                           return std::get<EnumField>(find_key("train.method")->field(config)).names.size();
                         }()));

}  // namespace
}  // namespace vixen
