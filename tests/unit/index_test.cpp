// The contract of search/index.hpp, for every row of the table of indexes: a new index is tested here by its row alone.
#include "search/index.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "base/check.hpp"
#include "config/keys.hpp"
#include "fixtures/fault.hpp"
#include "search/exact_search.hpp"
#include "search/faiss_ivf_pq_index.hpp"

namespace vixen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

at::Tensor unit(const at::Tensor& rows) {
  return rows / rows.norm(2, 1, true);
}

/// Unit rows around `clusters` centres: what embeddings of related labels look like.
at::Tensor clustered_rows(int64_t n, int64_t d, int64_t clusters, uint64_t seed) {
  const at::Tensor centres = random_rows(clusters, d, 1000);
  const at::Tensor of_row = at::arange(n, at::kLong).remainder(clusters);
  return unit(centres.index_select(0, of_row) + 0.5 * random_rows(n, d, seed));
}

double recall(const TopK& found, const TopK& expected) {
  int64_t common = 0;
  for (int64_t row = 0; row < expected.ids.size(0); ++row) {
    const auto* f = found.ids[row].data_ptr<int64_t>();
    const auto* e = expected.ids[row].data_ptr<int64_t>();
    const std::set<int64_t> ids(f, f + found.ids.size(1));
    for (int64_t i = 0; i < expected.ids.size(1); ++i) common += static_cast<int64_t>(ids.count(e[i]));
  }
  return static_cast<double>(common) / static_cast<double>(expected.ids.numel());
}

class IndexContract : public testing::TestWithParam<IndexKind> {
 protected:
  std::unique_ptr<Index> build(const at::Tensor& rows, int64_t first_id = 0) const {
    return make_index(config(), rows, first_id);
  }
  IndexConfig config() const {
    IndexConfig config;
    config.method = GetParam().method;
    return config;
  }
};

TEST_P(IndexContract, FindsTheBestInTheTotalOrder) {
  const at::Tensor labels = clustered_rows(2000, 48, 60, 1), queries = clustered_rows(60, 48, 60, 2);
  const auto index = build(labels, 700);
  EXPECT_EQ(index->rows(), 2000);
  EXPECT_EQ(index->width(), 48);
  EXPECT_EQ(index->first_id(), 700);
  EXPECT_GE(index->build_seconds(), 0);
  EXPECT_GT(index->bytes(), 2000);
  EXPECT_FALSE(index->description().empty());

  const TopK exact = ExactIndex(labels, 700, {}).search(queries, 20);
  const TopK found = index->search(queries, 20);
  if (GetParam().exact) {
    EXPECT_TRUE(at::equal(found.ids, exact.ids));
    EXPECT_TRUE(at::equal(found.scores, exact.scores)) << "canonical scores";
  } else {
    EXPECT_GT(recall(found, exact), 0.9);
  }
  // Whatever was found carries its canonical score, in the total order.
  for (int64_t row = 0; row < 60; ++row) {
    const at::Tensor own = labels.index_select(0, found.ids[row] - 700);
    EXPECT_TRUE(at::equal(found.scores[row], canonical_dot(queries[row].unsqueeze(0).expand({20, 48}), own)));
    for (int64_t i = 1; i < 20; ++i)
      EXPECT_GE(found.scores[row][i - 1].item<float>(), found.scores[row][i].item<float>());
  }
}

TEST_P(IndexContract, PlannedBytesAreNear) {
  const auto index = build(clustered_rows(1500, 48, 60, 1));
  const int64_t rows = 1500 * 48 * 4, planned = GetParam().planned_bytes(config(), 1500, 48, /*cpu=*/true);
  // What is planned counts the rows that an index shares with its maker once, with the maker.
  const int64_t gap = std::min(std::abs(index->bytes() - planned), std::abs(index->bytes() - rows - planned));
  EXPECT_TRUE(gap < rows / 20 || GetParam().method == SearchMethod::kExact) << index->bytes() << " " << planned;
  EXPECT_LE(index->bytes(), rows + planned);
  // On a device the exact search keeps a copy in two bytes a number and bounds; all else is on the host.
  EXPECT_EQ(GetParam().planned_bytes(config(), 1500, 48, /*cpu=*/false),
            GetParam().method == SearchMethod::kExact ? 1500 * 48 * 2 + (1500 + 6) * 8 : 0);
}

TEST_P(IndexContract, MoreLabelsThanThereAre) {
  for (const int64_t n : {3, 1200}) {
    const auto index = build(unit(random_rows(n, 16, 3)), 10);
    const int64_t k = n + 5;
    const TopK found = index->search(random_rows(4, 16, 4), k);
    std::vector<int64_t> all(static_cast<size_t>(n));
    std::iota(all.begin(), all.end(), 10);
    for (int64_t row = 0; row < 4; ++row) {
      const at::Tensor sorted = std::get<0>(at::sort(found.ids[row].narrow(0, 0, n)));
      EXPECT_TRUE(at::equal(sorted, at::tensor(all, at::kLong))) << "all " << n << " labels, each once";
    }
    EXPECT_TRUE(found.ids.narrow(1, n, 5).eq(-1).all().item<bool>());
    EXPECT_TRUE(found.scores.narrow(1, n, 5).eq(-kInfinity).all().item<bool>());
  }
}

TEST_P(IndexContract, EmptySides) {
  const TopK none = build(at::empty({0, 8}))->search(at::ones({3, 8}), 4);
  EXPECT_TRUE(none.ids.eq(-1).all().item<bool>());
  EXPECT_TRUE(none.scores.eq(-kInfinity).all().item<bool>());
  EXPECT_EQ(build(at::ones({3, 8}))->search(at::empty({0, 8}), 4).ids.size(0), 0);
}

TEST_P(IndexContract, OddWidthsDuplicatesAndHalfPrecision) {
  for (const int64_t d : {1, 3, 37}) {
    const at::Tensor labels = random_rows(1100, d, 5).to(at::kHalf);
    const TopK found = build(labels)->search(random_rows(5, d, 6), 10);
    EXPECT_TRUE(found.ids.ge(0).logical_and(found.ids.lt(1100)).all().item<bool>()) << d;
  }
  const TopK equal = build(at::ones({1100, 8}))->search(at::ones({2, 8}), 1100);
  EXPECT_TRUE(at::equal(equal.ids[0], at::arange(1100, at::kLong))) << "equal scores go by id";
}

TEST_P(IndexContract, ThreadsAndRepetitionChangeNothing) {
  const at::Tensor labels = clustered_rows(1200, 24, 40, 7), queries = clustered_rows(333, 24, 40, 8);
  const int before = at::get_num_threads();
  std::vector<TopK> found;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    found.push_back(build(labels)->search(queries, 12));
    EXPECT_EQ(at::get_num_threads(), threads) << "the caller's threads are left alone";
  }
  at::set_num_threads(before);
  for (const TopK& other : found) {
    EXPECT_TRUE(at::equal(other.ids, found[0].ids));
    EXPECT_TRUE(at::equal(other.scores, found[0].scores));
  }
  // Nor does the company that a query is in.
  const TopK alone = build(labels)->search(queries.narrow(0, 100, 1), 12);
  EXPECT_TRUE(!GetParam().exact || at::equal(alone.ids, found[0].ids.narrow(0, 100, 1)));
}

TEST_P(IndexContract, BadRowsAreTheUsersMistake) {
  at::Tensor nan = at::ones({5, 4});
  nan[3][2] = std::nanf("");
  at::Tensor infinite = at::ones({5, 4});
  infinite[4][0] = kInfinity;
  const auto message = [&](const at::Tensor& labels, const at::Tensor& queries) {
    return test::fault_of([&] { build(labels, 100)->search(queries, 1); });
  };
  EXPECT_NE(message(nan, at::ones({1, 4})).find("label row 103"), std::string::npos);
  EXPECT_NE(message(infinite, at::ones({1, 4})).find("label row 104"), std::string::npos);
  EXPECT_NE(message(at::ones({5, 4}), nan).find("query row 3"), std::string::npos);
  EXPECT_NE(message(at::ones({5, 4}), at::ones({1, 6})).find("6 columns, labels 4"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, IndexContract, testing::ValuesIn(index_kinds()),
                         [](const auto& kind) { return kind.param.name; });

TEST(IndexKinds, AreTheChoicesOfSearchMethod) {
  const Key* key = find_key("search.method");
  std::string names;
  for (const IndexKind& kind : index_kinds()) {
    names += (names.empty() ? "" : "|") + std::string(kind.name);
    Config config;
    set_value(*key, config, kind.name, "test");
    EXPECT_EQ(config.search.method, kind.method);
    EXPECT_EQ(&index_kind(kind.method), &kind);
    EXPECT_NE(key->help.find(std::string(kind.name) + ": " + kind.help), std::string::npos);
  }
  EXPECT_EQ(type_of(*key), names);
  EXPECT_TRUE(index_kind(SearchMethod::kExact).exact);
}

TEST(IvfPq, SizesFollowRowsAndSettings) {
  IndexConfig config;
  const IvfPqSizes large = ivf_pq_sizes(config, 107437, 384);
  EXPECT_EQ(large.lists, 1311);
  EXPECT_EQ(large.probes, 72);
  EXPECT_EQ(large.code_bytes, 96);
  EXPECT_EQ(large.padded_width, 384);
  EXPECT_EQ(ivf_pq_sizes(config, IvfPqSizes::kLeastRows - 1, 384).lists, 0) << "too few to learn from";
  EXPECT_EQ(ivf_pq_sizes(config, 1024, 384).lists, 26) << "39 points a centroid";
  const IvfPqSizes odd = ivf_pq_sizes(config, 5000, 383);
  EXPECT_EQ(odd.code_bytes, 95);
  EXPECT_EQ(odd.padded_width, 475);
  EXPECT_EQ(ivf_pq_sizes(config, 5000, 1).code_bytes, 1);
  config.nlist = 10;
  config.nprobe = 20;
  config.pq_bytes = 8;
  const IvfPqSizes asked = ivf_pq_sizes(config, 5000, 20);
  EXPECT_EQ(asked.lists, 10);
  EXPECT_EQ(asked.probes, 10) << "no more than there are";
  EXPECT_EQ(asked.padded_width, 24);
  config.pq_bytes = 21;
  EXPECT_FAULT(test::fault_of([&] { ivf_pq_sizes(config, 5000, 20); }), "search.pq_bytes = 21: labels are 20 wide");
}

TEST(IvfPq, MoreProbesAndCandidatesFindMore) {
  const at::Tensor labels = unit(random_rows(4000, 32, 9)), queries = unit(random_rows(100, 32, 10));
  const TopK exact = ExactIndex(labels, 0, {}).search(queries, 10);
  const auto recall_of = [&](int64_t probes, int64_t refine) {
    IndexConfig config;
    config.method = SearchMethod::kFaissIvfPq;
    config.nlist = 100;
    config.nprobe = probes;
    config.pq_refine = refine;
    return recall(make_index(config, labels, 0)->search(queries, 10), exact);
  };
  EXPECT_LT(recall_of(4, 8), recall_of(40, 8));
  EXPECT_LT(recall_of(40, 1), recall_of(40, 8));
  EXPECT_GT(recall_of(100, 40), 0.99) << "every list read";
}

TEST(IvfPq, WithoutRefiningRowsAreNotKept) {
  const at::Tensor labels = clustered_rows(4000, 64, 50, 11), queries = clustered_rows(40, 64, 50, 12);
  IndexConfig config;
  config.method = SearchMethod::kFaissIvfPq;
  const int64_t with_rows = make_index(config, labels, 0)->bytes();
  config.pq_refine = 0;
  const auto codes = make_index(config, labels, 5);
  EXPECT_EQ(with_rows - codes->bytes(), 4000 * 64 * 4);
  const TopK found = codes->search(queries, 10), exact = ExactIndex(labels, 5, {}).search(queries, 10);
  EXPECT_GT(recall(found, exact), 0.3);
  EXPECT_TRUE(at::allclose(found.scores, exact.scores, 0, 0.2)) << "scores of the codes are near";
  EXPECT_TRUE(codes->search(queries, 4000).ids.ge(5).all().item<bool>()) << "all labels, though few lists are read";
}

TEST(Hnsw, AWiderSearchFindsMore) {
  const at::Tensor labels = unit(random_rows(2000, 48, 13)), queries = unit(random_rows(100, 48, 14));
  const TopK exact = ExactIndex(labels, 0, {}).search(queries, 5);
  const auto recall_of = [&](int64_t links, int64_t ef) {
    IndexConfig config;
    config.method = SearchMethod::kFaissHnsw;
    config.hnsw_links = links;
    config.hnsw_ef = ef;
    return recall(make_index(config, labels, 0)->search(queries, 5), exact);
  };
  EXPECT_LT(recall_of(4, 5), recall_of(4, 200));
  EXPECT_GT(recall_of(32, 400), 0.95);
}

}  // namespace
}  // namespace vixen
