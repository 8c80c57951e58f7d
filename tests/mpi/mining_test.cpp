// Mining at W ranks against one rank, and against every rule computed by hand from the matrix of all scores; training
// with mined columns at W ranks, and taken up again.
#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include "fixtures/fault.hpp"
#include "mining/miner.hpp"
#include "mpi/trainer_fixture.hpp"
#include "search/exact_search.hpp"
#include "train/passes.hpp"

namespace vixen {
namespace {

constexpr int64_t kWidth = 24;

at::Tensor unit_rows(int64_t rows, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return normalize_rows(at::randn({rows, kWidth}, generator)).y;
}

struct Lists {
  at::Tensor ids, scores;  // of this rank's queries
  MinedCounts counts;
};

class MiningTest : public test::TrainerFixture {
 protected:
  static Config mining_config(const std::string& run = {}) {
    auto settings = config(run);
    settings.mining.columns = 60;
    settings.mining.depth = 16;
    return settings;
  }

  // Lists of the training queries by made-up embeddings, a few labels of which are equal.
  static Lists mine(const Config& settings, const Dataset& dataset, Communicator& comm) {
    const auto queries = unit_rows(dataset.train().size(), 7);
    auto labels = unit_rows(dataset.labels().size(), 8);
    for (int64_t i = 0; i < 40; ++i) labels[i * 2 + 1] = labels[i * 2];
    const auto own = RowShards(labels.size(0), comm.world_size()).range(comm.rank());
    const auto asked = RowShards(queries.size(0), comm.world_size()).range(comm.rank());
    Miner miner(settings, labels.narrow(0, own.begin, own.size()).clone(), dataset.labels(), comm);
    Lists lists{at::empty({asked.size(), settings.mining.depth}, at::kInt),
                at::empty({asked.size(), settings.mining.depth}),
                {}};
    const auto counts = miner.mine({dataset.train(), {dataset.train_labels()}},
                                   queries.narrow(0, asked.begin, asked.size()).to(at::kHalf), asked.begin,
                                   [&](const MinedBlock& block) {
                                     const int64_t first = block.queries.first - asked.begin, n = block.ids.size(0);
                                     lists.ids.narrow(0, first, n).copy_(block.ids);
                                     lists.scores.narrow(0, first, n).copy_(block.scores);
                                   });
    lists.counts = *counts;
    return lists;
  }
};

TEST_F(MiningTest, ListsAreThoseOfOneRankToTheBit) {
  auto settings = mining_config();
  const Dataset dataset(settings.data.path);
  for (const double relative : {0.0, 0.9}) {
    settings.mining.relative_margin = relative;
    settings.mining.skip_first = relative > 0 ? 1 : 0;
    test::SingleRank alone;
    const auto expected = mine(settings, dataset, alone), found = mine(settings, dataset, test::world());
    const auto own = RowShards(dataset.train().size(), test::world().world_size()).range(test::world().rank());
    EXPECT_TRUE(found.ids.equal(expected.ids.narrow(0, own.begin, own.size())));
    EXPECT_TRUE(found.scores.equal(expected.scores.narrow(0, own.begin, own.size())));
    EXPECT_EQ(found.counts.kept, expected.counts.kept);
    EXPECT_EQ(found.counts.margin, expected.counts.margin);
    EXPECT_EQ(found.counts.queries, dataset.train().size());
  }
}

TEST_F(MiningTest, ListsAreWhatTheRulesSayOfAllScores) {
  auto settings = mining_config();
  settings.mining.depth = 40;
  settings.mining.skip_first = 2;
  settings.mining.absolute_margin = 0.05;
  const Dataset dataset(settings.data.path);
  const auto found = mine(settings, dataset, test::world());
  auto labels = unit_rows(dataset.labels().size(), 8);
  for (int64_t i = 0; i < 40; ++i) labels[i * 2 + 1] = labels[i * 2];
  const auto queries = unit_rows(dataset.train().size(), 7).to(at::kHalf).to(at::kFloat);
  const auto own = RowShards(dataset.train().size(), test::world().world_size()).range(test::world().rank());
  int64_t dropped = 0;
  for (int64_t row = own.begin; row < own.end; row += 7) {
    const auto scores = canonical_dot(queries[row].expand({labels.size(0), kWidth}).contiguous(), labels);
    std::vector<int64_t> order(static_cast<size_t>(labels.size(0)));
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    const auto* score = scores.const_data_ptr<float>();
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return score[a] > score[b]; });
    const auto relevant = dataset.train_labels()[row];
    float weakest = std::numeric_limits<float>::infinity();
    for (const int32_t label : relevant) weakest = std::min(weakest, score[label]);
    const auto tokens = [&](int64_t label) {
      const auto text = dataset.labels().tokens[label];
      return std::vector<int32_t>(text.begin(), text.end());
    };
    std::set<std::vector<int32_t>> texts;
    for (const int32_t label : relevant) texts.insert(tokens(label));
    const auto query = dataset.train().tokens[row];
    texts.insert({query.begin(), query.end()});
    std::vector<int32_t> expected;
    int64_t passed = 0;
    for (int64_t place = 0; place < settings.mining.depth; ++place) {
      const int64_t label = order[static_cast<size_t>(place)];
      if (std::find(relevant.begin(), relevant.end(), label) != relevant.end()) continue;
      if (passed++ < 2) continue;
      const bool drop = texts.contains(tokens(label)) || score[label] > weakest - 0.05f;
      dropped += drop;
      if (!drop) expected.push_back(static_cast<int32_t>(label));
    }
    expected.resize(static_cast<size_t>(settings.mining.depth), -1);
    const auto list = found.ids[row - own.begin].contiguous();
    EXPECT_EQ(std::vector<int32_t>(list.const_data_ptr<int32_t>(), list.const_data_ptr<int32_t>() + list.numel()),
              expected)
        << "query " << row;
  }
  EXPECT_EQ(dropped > 0, own.size() > 0);
}

// Ranks that ask less have no row left while another goes on.
TEST_F(MiningTest, RanksMayAskDifferently) {
  const auto settings = mining_config();
  auto& comm = test::world();
  const int64_t rows = comm.rank() == 0 ? Miner::kBlockQueries + 10 : 10;
  on_root(comm, [&] {
    test::write_toy_dataset(folder_ / "many.h5",
                            {.n_train = Miner::kBlockQueries + 10, .n_labels = 1300, .vocabulary = 120});
  });
  const Dataset dataset(folder_ / "many.h5");
  const auto labels = unit_rows(dataset.labels().size(), 8);
  const auto own = RowShards(labels.size(0), comm.world_size()).range(comm.rank());
  Miner miner(settings, labels.narrow(0, own.begin, own.size()).clone(), dataset.labels(), comm);
  std::vector<int64_t> blocks;
  const auto counts = miner.mine({dataset.train(), {dataset.train_labels()}}, unit_rows(rows, 7), 0,
                                 [&](const MinedBlock& block) { blocks.push_back(block.ids.size(0)); });
  EXPECT_EQ(blocks, comm.rank() == 0 ? (std::vector<int64_t>{Miner::kBlockQueries, 10}) : std::vector<int64_t>{10});
  EXPECT_EQ(counts->queries, Miner::kBlockQueries + 10 * comm.world_size());
}

TEST_F(MiningTest, APassThatIsStoppedSaysSo) {
  const auto settings = mining_config();
  const Dataset dataset(settings.data.path);
  auto labels = unit_rows(dataset.labels().size(), 8);
  auto& comm = test::world();
  const auto own = RowShards(labels.size(0), comm.world_size()).range(comm.rank());
  Miner miner(settings, labels.narrow(0, own.begin, own.size()).clone(), dataset.labels(), comm);
  const auto counts = miner.mine(
      {dataset.train(), {dataset.train_labels()}}, at::zeros({0, kWidth}), 0, [](const MinedBlock&) {},
      [] { return true; });
  EXPECT_TRUE(counts.has_value()) << "there is no block to stop before";
  const auto queries = unit_rows(10, 3);
  EXPECT_FALSE(miner.mine(
      {dataset.train(), {dataset.train_labels()}}, queries, 0, [](const MinedBlock&) {}, [] { return true; }));
}

// One rank has blocks that the others have no rows for: they search on, and get nothing to take.
TEST_F(MiningTest, BlocksWithoutRowsAreNotHandedOut) {
  const auto settings = mining_config();
  const Dataset dataset(settings.data.path);
  auto& comm = test::world();
  const int64_t most = Miner::kBlockQueries + 10, n = comm.rank() == 0 ? most : 7;
  std::vector<int64_t> starts(static_cast<size_t>(most) + 1, 0);
  const OwnedRagged none{starts, {}};
  std::iota(starts.begin(), starts.end(), 0);
  const OwnedRagged tokens{starts, std::vector<int32_t>(static_cast<size_t>(most), 1)};
  const SequenceTable table{tokens.view(), none.view(), {}};
  auto labels = unit_rows(dataset.labels().size(), 8);
  const auto own = RowShards(labels.size(0), comm.world_size()).range(comm.rank());
  Miner miner(settings, labels.narrow(0, own.begin, own.size()).clone(), dataset.labels(), comm);
  int64_t rows = 0;
  const auto counts = miner.mine({table, {none.view()}}, unit_rows(n, 3), 0, [&](const MinedBlock& block) {
    EXPECT_GT(block.ids.size(0), 0);
    EXPECT_LE(block.queries[block.ids.size(0)], n);
    EXPECT_FALSE(block.places.defined()) << "training does not ask for it";
    rows += block.ids.size(0);
  });
  EXPECT_EQ(rows, n);
  EXPECT_EQ(counts->queries, most + 7 * (comm.world_size() - 1));
}

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
