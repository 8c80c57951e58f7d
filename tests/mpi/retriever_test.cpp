// The retriever at any world size: the same answers, filter pairs left out, recall measured on the same queries.
#include "retrieval/retriever.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "base/check.hpp"
#include "comm/on_root.hpp"
#include "commands/common.hpp"
#include "data/pairs.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/single_rank.hpp"
#include "fixtures/toy_dataset.hpp"
#include "fixtures/toy_model.hpp"
#include "mpi/mpi_main.hpp"
#include "retrieval/embed.hpp"
#include "search/exact_search.hpp"
#include "shard/row_shards.hpp"

namespace vixen {
namespace {

using test::world;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The same rows on every rank.
at::Tensor unit_rows(int64_t n, int64_t d, uint64_t seed) {
  const at::Tensor rows = at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
  return rows / rows.norm(2, 1, true);
}

at::Tensor own_part(const at::Tensor& rows) {
  const RowRange range = RowShards(rows.size(0), world().world_size()).range(world().rank());
  return rows.slice(0, range.begin, range.end);
}

/// Pairs as a data set holds them: query i must not be shown labels i and i + 1, every third query no pair at all.
struct Pairs {
  explicit Pairs(int64_t n) {
    offsets.push_back(0);
    for (int64_t i = 0; i < n; ++i) {
      if (i % 3 != 0) labels.insert(labels.end(), {static_cast<int32_t>(i), static_cast<int32_t>(i + 1)});
      offsets.push_back(static_cast<int64_t>(labels.size()));
    }
  }
  Ragged<int32_t> view() const { return {offsets, labels}; }
  std::vector<int64_t> offsets;
  std::vector<int32_t> labels;
};

class RetrieverTest : public testing::TestWithParam<IndexKind> {
 protected:
  static IndexConfig config() {
    IndexConfig config;
    config.method = GetParam().method;
    config.block_queries = 50;
    return config;
  }
};

TEST_P(RetrieverTest, AnswersAreThoseOfOneRankWithoutTheFilteredPairs) {
  // Queries are labels, so that the best label of a query is its own number, which the filter takes away.
  const at::Tensor labels = unit_rows(2200, 24, 1), queries = labels.slice(0, 0, 1100).contiguous();
  const Pairs pairs(queries.size(0));
  const auto ragged = pairs.view();
  const RowRange own = RowShards(queries.size(0), world().world_size()).range(world().rank());
  Retriever retriever(own_part(labels), config(), world());
  const TopK found = retriever.retrieve(own_part(queries), 10, PairFilter::of(ragged, own.begin));
  const RetrievalReport& report = retriever.report();
  EXPECT_EQ(report.labels, 2200);
  EXPECT_GT(report.index_bytes, 0);
  EXPECT_EQ(report.recall.has_value(), !GetParam().exact);
  if (report.recall) {
    EXPECT_EQ(report.queries, 1100);
    EXPECT_EQ(report.recall_queries, Retriever::kRecallQueries);
    EXPECT_GT(*report.recall, 0.5);
    EXPECT_LE(*report.recall, 1);
    EXPECT_NE(report.text().find("recall of the exact top 10: "), std::string::npos);
  }

  const TopK everything = ExactIndex(labels, 0, {}).search(queries, 12);
  const TopK expected = without_filtered(everything, PairFilter::of(ragged, 0), 10);
  ASSERT_EQ(found.ids.size(0), own.size());
  ASSERT_EQ(found.ids.size(1), 10);
  int64_t common = 0;
  for (int64_t row = 0; row < own.size(); ++row) {
    const int64_t query = own.begin + row;
    const auto* ids = found.ids[row].data_ptr<int64_t>();
    const std::set<int64_t> set(ids, ids + 10);
    EXPECT_EQ(set.size(), 10u) << "no label twice";
    if (query % 3 != 0) {
      EXPECT_FALSE(set.contains(query) || set.contains(query + 1)) << "filtered: " << query;
    } else {
      EXPECT_EQ(ids[0], query) << "its own label is the best";
    }
    const auto* best = expected.ids[query].data_ptr<int64_t>();
    for (int64_t i = 0; i < 10; ++i) common += static_cast<int64_t>(set.count(best[i]));
  }
  if (GetParam().exact) {
    EXPECT_TRUE(at::equal(found.ids, expected.ids.slice(0, own.begin, own.end)));
    EXPECT_TRUE(at::equal(found.scores, expected.scores.slice(0, own.begin, own.end)));
  }
  // What the report says is what a count over all queries gives, up to those that were not sampled.
  const auto share = static_cast<double>(world().sum_host(common)) / (10.0 * 1100);
  EXPECT_NEAR(report.recall.value_or(1), share, GetParam().exact ? 0 : 0.02);
  // Who goes through many blocks of queries measures the same.
  const auto recall = report.recall;
  Retriever blocks(own_part(labels), config(), world());
  blocks.measure(own_part(queries), 10, PairFilter::of(ragged, own.begin));
  EXPECT_EQ(blocks.report().recall, recall);
  EXPECT_EQ(blocks.report().recall_queries, report.recall_queries);
}

TEST_P(RetrieverTest, FewLabelsAndQueries) {
  Retriever retriever(own_part(unit_rows(20, 8, 3)), config(), world());
  const TopK found = retriever.retrieve(own_part(unit_rows(3, 8, 4)), 30);
  // One block of queries: a single rank asks.
  EXPECT_EQ(found.ids.sizes(), (std::vector<int64_t>{own_part(unit_rows(3, 8, 4)).size(0), 30}));
  EXPECT_TRUE(found.ids.narrow(1, 0, 20).ge(0).all().item<bool>());
  EXPECT_TRUE(found.ids.narrow(1, 20, 10).eq(-1).all().item<bool>());
  const TopK none = retriever.retrieve(at::empty({0, 8}), 5);
  EXPECT_EQ(none.ids.size(0), 0);
}

TEST_P(RetrieverTest, ABadLabelIsEveryRanksUserError) {
  at::Tensor labels = unit_rows(1100, 8, 5);
  labels[1099][3] = std::numeric_limits<float>::quiet_NaN();  // on the last rank
  const auto fault = test::fault_of([&] { Retriever(own_part(labels), config(), world()); });
  EXPECT_FAULT(fault, "label row 1099");
}

INSTANTIATE_TEST_SUITE_P(All, RetrieverTest, testing::ValuesIn(index_kinds()),
                         [](const auto& kind) { return kind.param.name; });

// Neighbours vote the same way wherever they and the labels are.
TEST(Retriever, AugmentedAnswersAreThoseOfOneRankToTheBit) {
  const at::Tensor labels = unit_rows(2200, 24, 1), queries = unit_rows(1100, 24, 2), training = unit_rows(1700, 24, 3);
  const Pairs pairs(queries.size(0)), relevant(training.size(0));
  const auto ragged = pairs.view();
  AugmentConfig config;
  config.lambda = 0.4;
  config.labels = 30;
  config.queries = 12;
  config.prior = 0.2;
  const auto source = [&] {
    std::vector<int64_t> counts(2200);
    count_columns(relevant.view(), counts);
    return AugmentSource{relevant.view(), std::move(counts)};
  };
  const RowRange own = RowShards(queries.size(0), world().world_size()).range(world().rank());
  Retriever together(own_part(labels), {}, world());
  together.augment(config, own_part(training), source());
  const TopK found = together.retrieve(own_part(queries), 10, PairFilter::of(ragged, own.begin));
  test::SingleRank comm;
  Retriever alone(labels, {}, comm);
  alone.augment(config, training, source());
  const TopK expected = alone.retrieve(queries, 10, PairFilter::of(ragged, 0));
  EXPECT_TRUE(at::equal(found.ids, expected.ids.slice(0, own.begin, own.end)));
  EXPECT_TRUE(at::equal(found.scores, expected.scores.slice(0, own.begin, own.end)));
  EXPECT_EQ(together.report().neighbours, 1700);
  EXPECT_GT(together.report().neighbour_bytes, 0);
}

TEST(Retriever, EncodesTheQueriesOfADataSet) {
  const test::TempDir dir;
  const std::filesystem::path folder = world().broadcast_host(dir.path().string(), 0);
  on_root(world(), [&] {
    const auto sha = test::write_toy_model(folder / "model");
    // More rows than one encoding block on both sides, so that several ranks own some.
    test::write_toy_dataset(folder / "data.h5", {.n_test = 1100, .n_labels = 1300, .tokenizer_sha256 = sha});
  });
  Config config;
  config.data.path = (folder / "data.h5").string();
  config.model.path = (folder / "model").string();
  const auto dataset = open_dataset(config);
  const auto model = load_encoder(config, *dataset, at::kCPU);
  const auto retrieve = [&](Communicator& comm) {
    const auto labels = embed_shard(*model->encoder, dataset->labels(), config, *dataset, comm, "");
    Retriever retriever(*model->encoder, *dataset, labels, config, comm);
    return retriever.retrieve(dataset->test(), 20, &dataset->test_filter());
  };
  test::SingleRank self;
  const TopK found = retrieve(world()), expected = retrieve(self);
  const RowRange own = RowShards(1100, world().world_size()).range(world().rank());
  EXPECT_TRUE(at::equal(found.ids, expected.ids.slice(0, own.begin, own.end)));
  EXPECT_TRUE(at::equal(found.scores, expected.scores.slice(0, own.begin, own.end)));
  for (int64_t row = 0; row < own.size(); ++row)
    for (const int32_t label : dataset->test_filter()[own.begin + row])
      EXPECT_FALSE(found.ids[row].eq(label).any().item<bool>()) << "query " << own.begin + row;
  world().barrier();  // the folder goes with rank 0's dir
}

// An index is a class and a row of the table; everything behind it takes any.
TEST(Retriever, AnIndexThatFindsNothingIsSeenInItsRecall) {
  IndexConfig config;
  config.method = SearchMethod::kFaissIvfPq;
  config.nprobe = 1;
  config.pq_bytes = 1;
  config.pq_refine = 1;
  const at::Tensor labels = unit_rows(6000, 32, 6);
  Retriever retriever(own_part(labels), config, world());
  retriever.retrieve(own_part(unit_rows(200, 32, 7)), 10);
  EXPECT_LT(retriever.report().recall.value(), 0.5);
  EXPECT_EQ(retriever.report().recall_queries, 200) << "all, as there are fewer than the sample";
}

TEST(PairFilter, CutsAndPads) {
  const std::vector<int64_t> offsets = {0, 2, 2};
  const std::vector<int32_t> labels = {4, 7};
  const Ragged<int32_t> pairs{offsets, labels};
  const PairFilter filter = PairFilter::of(pairs, 0);
  EXPECT_EQ(filter.widest, 2);
  const TopK lists{at::tensor({7, 3, 4, -1, 9, 7, 4, 1}, at::kLong).view({2, 4}),
                   at::tensor({5., 4., 3., -kInfinity, 9., 8., 7., 6.}, at::kFloat).view({2, 4})};
  const TopK cut = without_filtered(lists, filter, 2);
  EXPECT_TRUE(at::equal(cut.ids, at::tensor({3, -1, 9, 7}, at::kLong).view({2, 2})));
  EXPECT_TRUE(at::equal(cut.scores, at::tensor({4., -kInfinity, 9., 8.}, at::kFloat).view({2, 2})));
}

}  // namespace
}  // namespace vixen
