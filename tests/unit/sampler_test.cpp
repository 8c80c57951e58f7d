// Every row of the table of samplers: permutations, state that round-trips; and the curriculum of the clustered one.
#include "sampling/sampler.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/check.hpp"
#include "config/keys.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/orders.hpp"
#include "fixtures/single_rank.hpp"
#include "sampling/clustered.hpp"
#include "sampling/shuffled.hpp"

namespace vixen {
namespace {

constexpr int64_t kQueries = 64, kWidth = 8;

Config config(SamplerKind kind = SamplerKind::kClustered) {
  Config config;
  config.train.sampler = kind;
  config.train.epochs = 9;
  config.train.seed = 3;
  config.cluster = {.start_epoch = 2, .update_epochs = 3, .size = 4, .double_at = {3}};
  return config;
}

// A bank of random unit rows.
struct Bank {
  test::SingleRank comm;
  ShardedTable rows{comm, kQueries, kWidth, at::kHalf};
  Bank() {
    at::manual_seed(1);
    const auto random = at::randn({kQueries, kWidth});
    rows.local().copy_(random / random.norm(2, 1, true));
  }
  void end_epochs(Sampler& sampler, uint64_t first, uint64_t last) {
    for (uint64_t epoch = first; epoch < last; ++epoch) sampler.end_epoch(epoch, epoch + 1 < 9, rows, comm);
  }
};

class EverySampler : public ::testing::TestWithParam<size_t> {
 protected:
  static std::unique_ptr<Sampler> make() {
    return make_sampler(config(static_cast<SamplerKind>(GetParam())), kQueries);
  }
};

TEST_P(EverySampler, OrdersArePermutationsKeyedBySeedAndEpoch) {
  Bank bank;
  const auto sampler = make(), again = make();
  for (uint64_t epoch = 0; epoch < 9; ++epoch) {
    auto order = test::order_of(*sampler, kQueries, epoch);
    EXPECT_EQ(order, test::order_of(*again, kQueries, epoch)) << "nothing but the key decides";
    EXPECT_NE(order, test::order_of(*sampler, kQueries, epoch + 1));
    std::sort(order.begin(), order.end());
    std::vector<int64_t> all(kQueries);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(order, all);
    bank.end_epochs(*sampler, epoch, epoch + 1);
    bank.end_epochs(*again, epoch, epoch + 1);
  }
  EXPECT_GE(sampler->label_columns(100), 100);
}

TEST_P(EverySampler, GoesOnFromItsState) {
  Bank bank;
  for (const uint64_t saved : {0, 3, 5}) {
    const auto straight = make(), resumed = make();
    bank.end_epochs(*straight, 0, saved);
    resumed->restore(straight->state(), bank.comm);
    for (uint64_t epoch = saved; epoch < 9; ++epoch) {
      EXPECT_EQ(test::order_of(*resumed, kQueries, epoch), test::order_of(*straight, kQueries, epoch))
          << "saved after " << saved << ", epoch " << epoch;
      bank.end_epochs(*straight, epoch, epoch + 1);
      bank.end_epochs(*resumed, epoch, epoch + 1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, EverySampler, ::testing::Range<size_t>(0, [] {
                           Config config;
                           return std::get<EnumField>(find_key("train.sampler")->field(config)).names.size();
                         }()));

TEST(Shuffled, IsThePlainShuffle) {
  const auto sampler = make_sampler(config(SamplerKind::kShuffled), kQueries);
  Bank bank;
  bank.end_epochs(*sampler, 0, 6);
  EXPECT_EQ(test::order_of(*sampler, kQueries, 6), test::shuffled_order(kQueries, 3, 6));
  EXPECT_EQ(sampler->updates(), 0);
  EXPECT_EQ(sampler->end_epoch_bytes(kQueries, kWidth, 1, true), 0);
}

TEST(Clustered, FollowsTheCurriculum) {
  const auto sampler = make_sampler(config(), kQueries);
  Bank bank;
  const auto leaves = [&] {
    const auto state = sampler->state();
    return state.scalars.at("has_leaves").get<bool>() ? state.dense.at("leaves") : at::Tensor();
  };
  int64_t updates = 0;
  at::Tensor before;
  for (uint64_t epoch = 0; epoch < 9; ++epoch) {
    std::vector<int64_t> expected = test::shuffled_order(kQueries, 3, epoch);
    if (before.defined()) fill_clustered_order({before.const_data_ptr<int32_t>(), kQueries}, 3, epoch, expected);
    EXPECT_EQ(test::order_of(*sampler, kQueries, epoch), expected);
    bank.end_epochs(*sampler, epoch, epoch + 1);
    const auto now = leaves();
    const bool due = epoch == 2 || epoch == 5;  // not 8: no epoch follows
    updates += due;
    EXPECT_EQ(now.defined(), epoch >= 2);
    if (due) {
      EXPECT_EQ(now.max().item<int64_t>() + 1, epoch == 2 ? 16 : 8) << "clusters of 4, then of 8";
    } else if (now.defined()) {
      EXPECT_TRUE(now.equal(before));
    }
    before = now.defined() ? now.clone() : now;
  }
  EXPECT_EQ(sampler->updates(), updates) << "what `vixen plan` counts on";
  EXPECT_GT(sampler->end_epoch_bytes(kQueries, kWidth, 1, true), 0);
}

TEST(Clustered, StateOfAnotherDataSetIsRefused) {
  const auto small = make_sampler(config(), kQueries);
  Bank bank;
  bank.end_epochs(*small, 0, 3);
  const auto large = make_sampler(config(), kQueries + 1);
  EXPECT_FAULT(test::fault_of([&] { large->restore(small->state(), bank.comm); }), "leaves has 64 rows, expected 65");
  auto state = small->state();
  state.dense.clear();
  EXPECT_FAULT(test::fault_of([&] { small->restore(state, bank.comm); }), "no tensor leaves");
}

}  // namespace
}  // namespace vixen
