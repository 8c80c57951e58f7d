// Mining at W ranks against one rank, and against every rule computed by hand from the matrix of all scores.
#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include "mining/miner.hpp"
#include "mpi/mining_fixture.hpp"
#include "search/exact_search.hpp"

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

class MiningTest : public test::MiningFixture {
 protected:
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
  EXPECT_EQ(counts->queries, Miner::kBlockQueries + int64_t{10} * comm.world_size());
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

}  // namespace
}  // namespace vixen
