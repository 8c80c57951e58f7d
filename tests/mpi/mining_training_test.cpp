// Training with mined columns at W ranks against one rank, behind the training too, and taken up again.
#include "fixtures/fault.hpp"
#include "mining/miner.hpp"
#include "mpi/mining_fixture.hpp"
#include "train/passes.hpp"

namespace vixen {
namespace {

using test::losses_of;

using MiningTest = test::MiningFixture;

// Mined columns in training: the same lists, columns and losses at any number of ranks.
TEST_F(MiningTest, LossesWithMinedColumnsAreThoseOfOneRank) {
  for (const auto against : {MiningAgainst::kLabels, MiningAgainst::kPrototypes})
    for (const auto draw : {MiningDraw::kHardest, MiningDraw::kUniform, MiningDraw::kScore}) {
      auto settings = mining_config();
      settings.mining.against = against;
      settings.mining.draw = draw;
      settings.mining.labels = draw == MiningDraw::kScore ? MiningLabels::kBank : MiningLabels::kFresh;
      const Dataset dataset(settings.data.path);
      auto together = make(settings, dataset, false), alone = make(settings, dataset, true);
      together->prepare();
      alone->prepare();
      // From the same parameters and banks, for what follows is not continuous: a list changes by the last bit.
      const auto begin = [&](Trainer& trainer) {
        EXPECT_TRUE(mine_negatives(trainer.parts(), true, {}));
        const auto order = epoch_order(trainer.parts(), 0);
        const auto rows = trainer.parts().planner->batch_of(2, order.view());
        return trainer.parts().mined->offers(17, rows);
      };
      const auto offers = begin(*together), expected = begin(*alone);
      EXPECT_EQ(offers, expected);
      EXPECT_GT(offers.size(), 60U);
      const auto loss_of = [&](Trainer& trainer) {
        const auto& parts = trainer.parts();
        const auto order = epoch_order(parts, 0);
        const auto input = parts.step->prepare(parts.planner->plan(0, 2, order.view(), offers, settings.mining.columns),
                                               dataset, parts.pack);
        EXPECT_EQ(input.plan.label_rows.size(), input.plan.query_rows.size() + 60);
        return parts.step->accumulate(input).loss.item<double>();
      };
      const double loss = loss_of(*together), expected_loss = loss_of(*alone);
      EXPECT_NEAR(loss, expected_loss, 1e-6 * expected_loss);
      EXPECT_LT(test::relative_gap(together->parts().store.flat_grads(), alone->parts().store.flat_grads()), 2e-5);
    }
}

// Spread over steps, with no step between: the lists of a mining at once, at any number of ranks.
TEST_F(MiningTest, AMiningBehindTheTrainingFindsTheSame) {
  auto settings = mining_config();
  settings.mining.draw = MiningDraw::kScore;
  settings.mining.relative_margin = 0.98;
  const Dataset dataset(settings.data.path);
  auto at_once = make(settings, dataset, false);
  at_once->prepare();
  const auto counts = mine_negatives(at_once->parts(), true, {});
  for (const int64_t overlap : {1, 3, 7}) {
    settings.mining.overlap = overlap;
    auto spread = make(settings, dataset, false);
    spread->prepare();
    auto& parts = spread->parts();
    OverlappedMining mining(parts, MiningProgress::begin(parts, 20, labels_to_mine(parts, true)));
    EXPECT_EQ(mining.ends_at(), 20 + overlap);
    for (int64_t share = 0; share < overlap; ++share) {
      EXPECT_TRUE((parts.mined->ids() == -1).all().item<bool>()) << "taken up before it has ended";
      const int64_t before = mining.progress().counts.queries;
      mining.advance(20 + share);
      const int64_t n = dataset.train().size();
      EXPECT_EQ(mining.progress().counts.queries - before, (n - share + overlap - 1) / overlap);
    }
    mining.finish();
    EXPECT_TRUE(parts.mined->ids().equal(at_once->parts().mined->ids()));
    EXPECT_TRUE(parts.mined->scores().equal(at_once->parts().mined->scores()));
    EXPECT_EQ(mining.progress().counts.kept, counts->kept);
    EXPECT_EQ(mining.progress().counts.margin, counts->margin);
  }
}

// The labels are those of its beginning, the queries those of the step that searches them; the lists stay until all are
// there.
TEST_F(MiningTest, AMiningBehindTheTrainingSeesTheQueriesAsTheyComeAlong) {
  auto settings = mining_config();
  settings.mining.every_steps = 4;
  settings.mining.overlap = 3;
  settings.train.lr = 0.01;
  const Dataset dataset(settings.data.path);
  auto trainer = make(settings, dataset, false);
  trainer->prepare();
  auto& parts = trainer->parts();
  const auto steps = parts.planner->steps_per_epoch();
  losses_of(*trainer, steps);
  const auto labels = labels_to_mine(parts, true).clone();
  const auto own = parts.bank->local_range();
  at::Tensor expected = at::full_like(parts.mined->ids(), -1);
  Miner miner(settings, labels, dataset.labels(), *parts.comm);
  const MiningQueries queries{dataset.train(), {dataset.train_labels()}};
  for (int64_t share = 0; share < 3; ++share) {
    MinedLists now(settings, dataset.train().size(), *parts.comm);
    ASSERT_TRUE(
        miner.mine(queries, parts.bank->local(), own.begin, [&](const MinedBlock& block) { now.assign(block); }));
    for (int64_t row = 0; row < own.size(); ++row)
      if ((own.begin + row) % 3 == share) expected[row].copy_(now.ids()[row]);
    losses_of(*trainer, 1);
    EXPECT_TRUE((parts.mined->ids() == -1).all().item<bool>());
  }
  losses_of(*trainer, 1);
  EXPECT_TRUE(parts.mined->ids().equal(expected));
}

TEST_F(MiningTest, AMiningThatNoStepWouldUseIsNotBegun) {
  auto settings = mining_config();
  settings.train.epochs = 2;
  settings.mining.overlap = 10;
  const Dataset dataset(settings.data.path);
  auto trainer = make(settings, dataset, false);
  trainer->prepare();
  ASSERT_EQ(trainer->parts().planner->steps_per_epoch(), 10);
  losses_of(*trainer, 10);
  losses_of(*trainer, 10);
  EXPECT_TRUE((trainer->parts().mined->ids() == -1).all().item<bool>());
}

struct GoesOn {
  const char* name;
  MiningLabels labels;
  int64_t overlap;
};

class MiningGoesOn : public MiningTest, public ::testing::WithParamInterface<GoesOn> {};

TEST_P(MiningGoesOn, ToTheBit) {
  auto settings = mining_config(fmt::format("mining-{}-{}", test::world().world_size(), GetParam().name));
  settings.mining.labels = GetParam().labels;
  settings.mining.overlap = GetParam().overlap;
  settings.mining.every_steps = 4;
  settings.mining.draw = MiningDraw::kScore;
  const Dataset dataset(settings.data.path);
  auto straight = make(settings, dataset, false);
  straight->prepare();
  const auto steps = straight->parts().planner->steps_per_epoch();
  ASSERT_EQ(steps, 10);
  std::vector<double> expected;
  for (int part = 0; part < 2; ++part)
    for (const double loss : losses_of(*straight, steps)) expected.push_back(loss);
  // Taken up at a step that mines, before it has; between two minings, or in the middle of one; as one has ended.
  for (const int64_t cut : {4, 6, 7}) {
    auto first = make(settings, dataset, false);
    first->prepare();
    auto losses = losses_of(*first, steps);
    for (const double loss : losses_of(*first, cut)) losses.push_back(loss);
    first->save();
    auto second = make(settings, dataset, false);
    ASSERT_TRUE(second->resume());
    for (const double loss : losses_of(*second, steps - cut)) losses.push_back(loss);
    EXPECT_EQ(losses, expected) << "cut at " << cut;
    EXPECT_TRUE(second->parts().mined->ids().equal(straight->parts().mined->ids()));
  }
  auto other = settings;
  other.mining.depth = 17;
  auto refused = make(other, dataset, false);
  EXPECT_FAULT(test::fault_of([&] { refused->resume(); }), "mining.depth");
}

INSTANTIATE_TEST_SUITE_P(All, MiningGoesOn,
                         ::testing::Values(GoesOn{"fresh", MiningLabels::kFresh, 0},
                                           GoesOn{"bank", MiningLabels::kBank, 0},
                                           GoesOn{"overlap", MiningLabels::kFresh, 3},
                                           GoesOn{"overlap_bank", MiningLabels::kBank, 4}),
                         [](const auto& tested) { return tested.param.name; });

TEST_F(MiningTest, PrototypesCannotBeSearchedWhereThereAreNone) {
  auto settings = mining_config();
  settings.train.method = Method::kNgame;
  settings.mining.against = MiningAgainst::kPrototypes;
  const Dataset dataset(settings.data.path);
  EXPECT_FAULT(test::fault_of([&] { make(settings, dataset, false); }), "mining.against");
}

}  // namespace
}  // namespace vixen
