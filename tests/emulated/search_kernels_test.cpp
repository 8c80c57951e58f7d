// The search's CUDA kernels, emulated: the state of their references after every tile, in three orders of threads, and
// whole searches with the answers of the CPU's to the bit.
#include <bit>
#include <limits>

#include "config/config.hpp"
#include "emulated/comparison.hpp"
#include "search/device_kernels.hpp"
#include "search/error_bound.hpp"
#include "search/exact_search.hpp"
#include "search/exact_search_device.hpp"

namespace vixen::emulated {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

using EmulatedSearch = LentToCpu<lend_search_kernels, emulated_cuda_search_kernels>;

at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed, double scale = 1) {
  return at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed)) * scale;
}
at::Tensor unit(const at::Tensor& rows) {
  return rows / rows.norm(2, 1, true);
}

/// Rows as part `first` ... of a shard, a block of queries, and the bounds of both.
struct Bench {
  Bench(const at::Tensor& labels, const at::Tensor& asked, const at::Tensor& divisors = {})
      : queries(asked), part{0, labels, divisors, {}}, rounded(asked.to(at::kBFloat16)) {
    const at::Tensor wide = divided(labels, divisors);
    part.rounded = wide.to(at::kBFloat16);
    const int64_t n = labels.size(0), groups = (n + kGroupLabels - 1) / kGroupLabels;
    const ErrorModel model(labels.size(1), true, at::kCPU);
    const RowBounds of_labels = row_bounds(wide, part.rounded, "label", 0);
    const RowBounds of_queries = row_bounds(asked, rounded, "query", 0);
    bounds = {at::empty({asked.size(0), 3}), at::empty({n, 2}), at::zeros({groups, 2}), model.relative()};
    for (int64_t i = 0; i < n; ++i) {
      const auto row = static_cast<size_t>(i);
      bounds.labels[i][0] = of_labels.norm[row] * (1 + 1e-6);
      bounds.labels[i][1] = of_labels.residual[row] * (1 + 1e-6);
    }
    for (int64_t g = 0; g < groups; ++g)
      bounds.groups[g].copy_(std::get<0>(bounds.labels.slice(0, g * kGroupLabels, (g + 1) * kGroupLabels).max(0)));
    for (int64_t i = 0; i < asked.size(0); ++i) {
      const auto weights =
          model.weights(of_queries.norm[static_cast<size_t>(i)], of_queries.residual[static_cast<size_t>(i)]);
      bounds.weights[i][0] = weights.norm;
      bounds.weights[i][1] = weights.residual;
      bounds.weights[i][2] = weights.constant;
    }
  }

  /// A tile as the search has it: rows of `stride` scores, what lies behind the columns is NaN.
  ScoreTile tile(int64_t first, int64_t columns, int64_t stride) const {
    at::Tensor scores = at::empty({queries.size(0), stride}, at::dtype(at::kBFloat16)).narrow(1, 0, columns);
    scores.copy_(at::mm(rounded, part.rounded.narrow(0, first, columns).t()));
    return {scores, first};
  }

  at::Tensor queries;
  DevicePart part;
  at::Tensor rounded;
  FilterBounds bounds;
};

/// Bits in which not all of these int64 are alike.
int64_t differing_bits(const at::Tensor& keys) {
  uint64_t any = 0, all = ~uint64_t{0};
  for (int64_t i = 0; i < keys.numel(); ++i) {
    const auto key = static_cast<uint64_t>(keys[i].item<int64_t>());
    any |= key;
    all &= key;
  }
  return std::popcount(any & ~all);
}

/// What is of meaning in candidates: places beyond the count are made equal.
Results meaning_of(const DeviceCandidates& candidates) {
  const at::Tensor empty =
      at::arange(candidates.capacity(), at::dtype(at::kInt)).unsqueeze(0) >= candidates.count.unsqueeze(1);
  return {candidates.count.clone(),
          candidates.exact.clone(),
          candidates.threshold.clone(),
          candidates.label.masked_fill(empty, -1),
          candidates.lower.masked_fill(empty, 0),
          candidates.upper.masked_fill(empty, 0)};
}

/// Goes through all labels in tiles, and settles; the state after each step.
Results states(const Bench& bench, int64_t k, int64_t limit, int64_t tile) {
  const int64_t m = bench.queries.size(0), n = bench.part.values.size(0);
  DeviceCandidates candidates(m, k, limit + tile, bench.queries.options());
  begin_candidates(candidates, empty_top_k(m, k), 0);
  Results all;
  const auto note = [&] {
    for (at::Tensor& one : meaning_of(candidates)) all.push_back(std::move(one));
  };
  for (int64_t first = 0; first < n; first += tile) {
    const int64_t columns = std::min(tile, n - first);
    filter_scores(candidates, bench.tile(first, columns, tile), bench.bounds, bench.queries, bench.part, limit,
                  /*may_exceed=*/true);
    note();
  }
  settle_candidates(candidates, bench.queries, bench.part);
  note();
  const TopK sorted = in_total_order(candidates, std::min(k, n));
  all.push_back(sorted.ids);
  all.push_back(sorted.scores);
  return all;
}

/// The emulated kernels leave what the references leave, to the bit, whatever the order of threads.
Counts expect_states_of_reference(const Bench& bench, int64_t k, int64_t limit, int64_t tile) {
  const Results want = states(bench, k, limit, tile);
  Counts counted;
  Results got;
  {
    const EmulatedSearch emulated;
    got = in_all_orders([&] { return states(bench, k, limit, tile); }, &counted);
  }
  EXPECT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_TRUE(same_bits(got[i], want[i])) << "tensor " << i % 6 << " of step " << i / 6 << " of " << want.size() / 6;
  return counted;
}

TEST(EmulatedSearchKernels, LeaveWhatTheReferencesLeave) {
  for (const int64_t d : {1, 37}) {
    SCOPED_TRACE(testing::Message() << d << " columns");
    // 5 tiles, the last one ragged; thresholds rise, buffers are compacted by bounds.
    expect_states_of_reference(Bench(unit(random_rows(1100, d, 1)), unit(random_rows(2, d, 2))), 5, 60, 256);
  }
  // One best; as many as there are; more.
  const at::Tensor labels = unit(random_rows(700, 24, 3)), queries = unit(random_rows(2, 24, 4));
  expect_states_of_reference(Bench(labels, queries), 1, 1, 768);
  expect_states_of_reference(Bench(labels, queries), 700, 700, 256);
  expect_states_of_reference(Bench(labels, queries), 900, 900, 512);
}

TEST(EmulatedSearchKernels, TilesOfSeveralRounds) {
  // More columns than a block looks at together; a few pass, everywhere.
  const at::Tensor labels = unit(random_rows(8192 + 777, 8, 5)), queries = unit(random_rows(2, 8, 6));
  expect_states_of_reference(Bench(labels, queries), 3, 40, 8192 + 1024);
}

TEST(EmulatedSearchKernels, RowsOfEveryStorage) {
  const at::Tensor labels = random_rows(400, 40, 7), queries = unit(random_rows(2, 40, 8));
  expect_states_of_reference(Bench(labels.to(at::kHalf), queries), 7, 30, 256);
  expect_states_of_reference(Bench(labels.to(at::kBFloat16), queries), 7, 30, 256);
  const at::Tensor lengths = labels.to(at::kHalf).to(at::kDouble).norm(2, 1);
  expect_states_of_reference(Bench(labels.to(at::kHalf), queries, lengths), 7, 30, 256);
}

TEST(EmulatedSearchKernels, WhatBoundsCannotTellApart) {
  const at::Tensor queries = unit(random_rows(2, 16, 9));
  // Equal rows fill every buffer: canonical scores and ids decide, in the middle of the scan.
  expect_states_of_reference(Bench(at::ones({600, 16}), queries), 10, 20, 256);
  expect_states_of_reference(Bench(at::zeros({600, 16}), queries), 10, 20, 256);
  // Few different scores, each many times.
  expect_states_of_reference(Bench(at::round(random_rows(30, 16, 10)).repeat({20, 1}), at::round(queries * 3)), 13, 50,
                             256);
  // Differences far below what bfloat16 sees.
  expect_states_of_reference(Bench(unit(random_rows(1, 16, 11)) + random_rows(600, 16, 12, 1e-6), queries), 10, 20,
                             256);
  // Every label is better than those before it, or worse.
  const at::Tensor rising = at::arange(768, at::kFloat).unsqueeze(1) * at::ones({1, 16}) / 100;
  expect_states_of_reference(Bench(rising, at::ones({2, 16})), 10, 20, 256);
  expect_states_of_reference(Bench(rising, -at::ones({2, 16})), 10, 20, 256);
}

TEST(EmulatedSearchKernels, RowsOfManyLengths) {
  at::Tensor labels = random_rows(1000, 16, 13) * at::pow(10.0, random_rows(1000, 1, 14, 3));
  labels.slice(0, 0, 1000, 50).mul_(1e6);
  labels.slice(0, 1, 1000, 50).zero_();
  labels.slice(0, 2, 1000, 50).mul_(1e-38);  // denormal
  expect_states_of_reference(Bench(labels, random_rows(3, 16, 15)), 12, 40, 256);
}

TEST(EmulatedSearchKernels, BytesAreTheFormulas) {
  const int64_t m = 3, n = 1024, d = 32, tile = 1024, k = 4;
  const Bench bench(unit(random_rows(n, d, 16)), unit(random_rows(m, d, 17)));
  DeviceCandidates candidates(m, k, 2 * tile, bench.queries.options());
  begin_candidates(candidates, empty_top_k(m, k), 0);
  candidates.threshold.fill_(kInfinity);
  const EmulatedSearch emulated;
  reset_counts();
  filter_scores(candidates, bench.tile(0, n, tile), bench.bounds, bench.queries, bench.part, tile, false);
  EXPECT_EQ(counts().loaded_bytes, 2 * m * n + m * n + int64_t{24} * 256 * m) << "nothing reaches the threshold";
  EXPECT_EQ(counts().stored_bytes, 0);
  candidates.threshold.fill_(-kInfinity);
  reset_counts();
  filter_scores(candidates, bench.tile(0, n, tile), bench.bounds, bench.queries, bench.part, tile, false);
  EXPECT_EQ(counts().loaded_bytes, 2 * m * n + m * n + int64_t{24} * 256 * m + (10 + 10) * m * n) << "all do";
  EXPECT_EQ(counts().stored_bytes, 12 * m * n + 12 * m);

  int64_t loaded = int64_t{12} * 256 * m, stored = (12 * k + 12) * m;
  for (int64_t i = 0; i < m; ++i) {
    const at::Tensor lower = candidates.lower[i].narrow(0, 0, n), upper = candidates.upper[i].narrow(0, 0, n);
    const at::Tensor label = candidates.label[i].narrow(0, 0, n).to(at::kLong);
    const at::Tensor left = label.masked_select(upper >= std::get<0>(lower.topk(k))[k - 1]);
    const int64_t survivors = left.numel();
    ASSERT_LT(survivors, n);
    const at::Tensor scores = reference::canonical_dot(bench.queries[i], bench.part.values.index_select(0, left));
    loaded +=
        (4 * (1 + differing_bits(order_keys(lower, label).bitwise_right_shift(32).bitwise_and(0xffffffff))) + 12) * n +
        (4 * d + 4 * d + 64 + 8 * (1 + differing_bits(order_keys(scores, left))) + 12) * survivors;
    stored += 20 * survivors;
  }
  reset_counts();
  settle_candidates(candidates, bench.queries, bench.part);
  EXPECT_EQ(counts().loaded_bytes, loaded);
  EXPECT_EQ(counts().stored_bytes, stored);
}

TEST(EmulatedSearchKernels, CanonicalDotsAreTheReferences) {
  for (const int64_t d : {0, 1, 15, 16, 17, 64, 387})
    for (const int64_t n : {1, 16, 33}) {
      const at::Tensor a = random_rows(n, d, 18, 100), b = random_rows(n, d, 19, 0.01);
      const EmulatedSearch emulated;
      Counts counted;
      const Results got = in_all_orders([&] { return Results{canonical_dots(a, b)}; }, &counted);
      EXPECT_TRUE(same_bits(got[0], reference::canonical_dot(a, b))) << d;
      EXPECT_TRUE(same_bits(got[0], canonical_dot(a, b))) << d << ": the CPU's own";
      EXPECT_EQ(counted.loaded_bytes, 8 * n * d);
      EXPECT_EQ(counted.stored_bytes, 4 * n);
    }
}

/// Whole searches by the kernels against the CPU's own.
void expect_answers_of_the_cpu(const ScaledRows& labels, const at::Tensor& queries, int64_t k) {
  IndexConfig config;
  config.prefilter = Prefilter::kFloat32;
  config.block_queries = 2;
  config.block_labels = 512;
  const TopK want = ExactIndex(labels, 1000, config).search(queries, k);
  const DeviceLabels prepared(labels, 1000, /*part_labels=*/kGroupLabels);
  const EmulatedSearch emulated;
  const Results got = in_all_orders([&] {
    const TopK found = search_on_device(prepared, queries, k, config, false);
    return Results{found.ids, found.scores};
  });
  EXPECT_TRUE(same_bits(got[0], want.ids));
  EXPECT_TRUE(same_bits(got[1], want.scores));
}

TEST(EmulatedSearchKernels, WholeSearchesAreTheCpus) {
  const at::Tensor queries = unit(random_rows(3, 20, 20));
  for (const int64_t k : {1, 300}) {
    SCOPED_TRACE(testing::Message() << "k " << k);
    expect_answers_of_the_cpu(unit(random_rows(1700, 20, 21)), queries, k);
  }
  expect_answers_of_the_cpu(unit(random_rows(1700, 20, 22)).to(at::kHalf), queries, 10);
  expect_answers_of_the_cpu(at::round(random_rows(40, 20, 23)).repeat({42, 1}), at::round(queries * 3), 50);
  expect_answers_of_the_cpu(at::ones({1700, 20}), queries, 10);
  expect_answers_of_the_cpu(unit(random_rows(200, 20, 24)), queries, 300);
}

}  // namespace
}  // namespace vixen::emulated
