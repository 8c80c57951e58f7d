// The exact search against a brute force in float64: ties, duplicates, any k, block size, thread count and prefilter.
#include "search/exact_search.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.hpp"
#include "base/random.hpp"
#include "fixtures/fault.hpp"
#include "search/exact_search_aten.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed, double scale = 1.0) {
  at::Tensor rows = at::empty({n, d}, at::kFloat);
  auto* data = rows.mutable_data_ptr<float>();
  for (int64_t i = 0; i < n * d; ++i) {
    data[i] =
        static_cast<float>(scale * (random_uniform(seed, RandomStream::kSample, 0, static_cast<uint64_t>(i)) - 0.5));
  }
  return rows;
}

at::Tensor unit(const at::Tensor& rows) {
  return rows / rows.norm(2, 1, true);
}

/// Sixteen lanes summed in order, then as a tree: the canonical score spelled out.
float canonical(const float* a, const float* b, int64_t d) {
  double lanes[16] = {};
  for (int64_t i = 0; i < d; ++i) lanes[i % 16] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (int half = 8; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return static_cast<float>(lanes[0]) + 0.0F;
}

TopK brute_force(const at::Tensor& labels, const at::Tensor& queries, int64_t k, int64_t first_id) {
  const int64_t m = queries.size(0), n = labels.size(0), d = labels.size(1);
  TopK result{at::full({m, k}, -1, at::kLong), at::full({m, k}, -kInfinity, at::kFloat)};
  const at::Tensor l = labels.to(at::kFloat).contiguous(), q = queries.contiguous();
  std::vector<float> scores(static_cast<size_t>(n));
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t i = 0; i < n; ++i) {
      scores[static_cast<size_t>(i)] =
          canonical(q.const_data_ptr<float>() + row * d, l.const_data_ptr<float>() + i * d, d);
    }
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) {
      return scores[static_cast<size_t>(x)] > scores[static_cast<size_t>(y)];
    });
    for (int64_t place = 0; place < std::min(k, n); ++place) {
      const auto label = static_cast<size_t>(order[static_cast<size_t>(place)]);
      result.ids[row][place] = first_id + static_cast<int64_t>(label);
      result.scores[row][place] = scores[label];
    }
  }
  return result;
}

void expect_same(const TopK& found, const TopK& expected, const std::string& what) {
  ASSERT_EQ(found.ids.sizes(), expected.ids.sizes()) << what;
  EXPECT_TRUE(at::equal(found.ids, expected.ids)) << what;
  EXPECT_TRUE(at::equal(found.scores, expected.scores)) << what << ": scores agree to the bit";
}

/// Every way to search must give the expected answer.
void check_all_ways(const at::Tensor& labels, const at::Tensor& queries, int64_t k, int64_t first_id = 0) {
  const TopK expected = brute_force(labels, queries, k, first_id);
  for (const Prefilter prefilter : {Prefilter::kFloat32, Prefilter::kBfloat16, Prefilter::kAuto}) {
    for (const auto& [block_queries, block_labels] : {std::pair<int64_t, int64_t>{1024, 8192}, {7, 100}, {64, 1000}}) {
      for (const int threads : {1, 2}) {
        at::set_num_threads(threads);
        IndexConfig options;
        options.prefilter = prefilter;
        options.block_queries = block_queries;
        options.block_labels = block_labels;
        const ExactIndex index(labels, first_id, options);
        expect_same(index.search(queries, k), expected,
                    fmt::format("k {} prefilter {} blocks {} x {} threads {}", k, static_cast<int>(prefilter),
                                block_queries, block_labels, threads));
      }
    }
  }
  // What a GPU runs, on the CPU.
  LabelRows rows{labels.to(at::kFloat).contiguous(), {}, first_id, 700, {}};
  rows.prefilter = rows.rows;
  const RowBounds bounds = row_bounds(rows.rows, rows.rows, "label", 0);
  for (int64_t begin = 0; begin < labels.size(0); begin += rows.block_rows) {
    rows.bounds.push_back(block_bound(bounds, begin, std::min(labels.size(0), begin + rows.block_rows)));
  }
  expect_same(search_with_aten(rows, queries.contiguous(), k, /*block_queries=*/16, /*show_progress=*/false), expected,
              fmt::format("ATen, k {}", k));
}

class ExactSearch : public testing::TestWithParam<int64_t> {};

TEST_P(ExactSearch, UnitRows) {
  check_all_ways(unit(random_rows(3000, 48, 1)), unit(random_rows(33, 48, 2)), GetParam(), 5000);
}

TEST_P(ExactSearch, RowsOfManyLengths) {
  // Norms over five orders of magnitude, width not a multiple of anything.
  at::Tensor labels = random_rows(3000, 37, 3);
  labels = labels * at::pow(10.0, random_rows(3000, 1, 4, 5.0));
  check_all_ways(labels, random_rows(20, 37, 5, 3.0), GetParam());
}

TEST_P(ExactSearch, TiesAndDuplicates) {
  // Coordinates in {-1, 0, 1} give a handful of distinct scores; every row occurs many times.
  const at::Tensor labels = at::round(random_rows(40, 12, 6, 2.4)).repeat({75, 1});
  const at::Tensor queries = at::round(random_rows(25, 12, 7, 2.4));
  check_all_ways(labels, queries, GetParam(), 17);
}

TEST_P(ExactSearch, NearlyEqualScores) {
  // Differences far below what bfloat16 or even float32 products can see.
  const at::Tensor centre = unit(random_rows(1, 64, 8));
  const at::Tensor labels = centre + random_rows(3000, 64, 9, 3e-7);
  check_all_ways(labels, unit(random_rows(9, 64, 10)), GetParam());
}

TEST_P(ExactSearch, ScoresMuchSmallerThanTheirTerms) {
  // Labels at nearly right angles to the query: the product's error is far larger than a share of the score.
  const at::Tensor direction = unit(random_rows(1, 64, 40));
  at::Tensor labels = unit(random_rows(3000, 64, 41));
  labels = labels - at::mm(labels, direction.t()) * direction;
  const at::Tensor queries = direction * at::arange(1, 6, at::kFloat).unsqueeze(1);
  for (const double spread : {0.02, 1e-3, 1e-6}) {
    check_all_ways(labels + direction * random_rows(3000, 1, 42, 2 * spread), queries, GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(K, ExactSearch, testing::Values(1, 10, 100, 2500, 3100), testing::PrintToStringParamName());

TEST(ExactSearch, AllLabelsEqual) {
  check_all_ways(at::ones({5000, 8}), at::ones({3, 8}), 10);
  check_all_ways(at::zeros({5000, 8}), -at::ones({3, 8}), 10);
}

TEST(ExactSearch, ScoresRiseTowardsTheEnd) {
  // The worst order for a threshold: every label is better than those before it.
  const at::Tensor labels = at::arange(6000, at::kFloat).unsqueeze(1) * at::ones({1, 16}) / 100;
  check_all_ways(labels, at::ones({4, 16}), 100);
  check_all_ways(labels, -at::ones({4, 16}), 100);
}

TEST(ExactSearch, HalfPrecisionRows) {
  const at::Tensor labels = unit(random_rows(2000, 32, 11)).to(at::kHalf);
  check_all_ways(labels, unit(random_rows(10, 32, 12)), 20);
}

TEST(ExactSearch, EmptySidesArePadded) {
  const ExactIndex none(at::empty({0, 8}), 0, {});
  const TopK padded = none.search(at::ones({3, 8}), 4);
  EXPECT_TRUE(at::equal(padded.ids, at::full({3, 4}, -1, at::kLong)));
  EXPECT_TRUE(at::equal(padded.scores, at::full({3, 4}, -kInfinity)));
  EXPECT_EQ(ExactIndex(at::ones({3, 8}), 0, {}).search(at::empty({0, 8}), 4).ids.size(0), 0);
}

TEST(ExactSearch, BadRowsAreTheUsersMistake) {
  const auto message = [](const at::Tensor& labels, const at::Tensor& queries) {
    return test::fault_of([&] { ExactIndex(labels, 100, {}).search(queries, 1); });
  };
  at::Tensor nan = at::ones({5, 4});
  nan[3][2] = std::nanf("");
  at::Tensor infinite = at::ones({5, 4});
  infinite[4][0] = kInfinity;
  EXPECT_NE(message(nan, at::ones({1, 4})).find("label row 103"), std::string::npos);
  EXPECT_NE(message(at::ones({5, 4}), nan).find("query row 3"), std::string::npos);
  EXPECT_NE(message(infinite, at::ones({1, 4})).find("label row 104"), std::string::npos);
  EXPECT_NE(message(at::full({2, 4}, 1e30), at::ones({1, 4})).find("norm"), std::string::npos);
  EXPECT_NE(message(at::ones({5, 4}), at::ones({1, 6})).find("6 columns, labels 4"), std::string::npos);
}

TEST(CanonicalDot, IsTheSameByEveryRoute) {
  for (const int64_t d : {1, 15, 16, 17, 64, 387}) {
    const at::Tensor a = random_rows(50, d, 20, 100.0), b = random_rows(50, d, 21, 0.01);
    const at::Tensor scores = canonical_dot(a, b);
    EXPECT_TRUE(at::equal(scores, canonical_dot_aten(a, b))) << d;
    std::vector<ScanKernels> variants = {scan_kernels(), scan_kernels_baseline()};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) variants.push_back(scan_kernels_avx2());
    for (int64_t i = 0; i < 50; ++i) {
      const float* row_a = a.const_data_ptr<float>() + i * d;
      const float* row_b = b.const_data_ptr<float>() + i * d;
      EXPECT_EQ(scores[i].item<float>(), canonical(row_a, row_b, d));
      for (const auto& variant : variants) {
        EXPECT_EQ(static_cast<float>(variant.dot(row_a, row_b, d)) + 0.0F, canonical(row_a, row_b, d));
      }
    }
  }
}

TEST(ScanKernels, VariantsFindTheSame) {
  const at::Tensor scores = random_rows(1, 1003, 30, 2.0);
  const at::Tensor narrow = scores.to(at::kBFloat16);
  std::vector<ScanKernels> variants = {scan_kernels(), scan_kernels_baseline()};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) variants.push_back(scan_kernels_avx2());
  for (const float threshold : {-kInfinity, -0.5F, 0.0F, 0.9F, 2.0F}) {
    for (const auto& kernels : variants) {
      std::vector<float> found(2000);
      std::vector<int32_t> index(2000);
      ScanState state{0, 3};
      kernels.scan_float(scores.const_data_ptr<float>(), 1003, threshold, found.data(), index.data(), 2000, &state);
      EXPECT_EQ(state.position, 1003);
      EXPECT_EQ(state.count - 3, (scores >= threshold).sum().item<int64_t>());
      for (auto i = 3; i < state.count; ++i) {
        EXPECT_EQ(found[static_cast<size_t>(i)], scores[0][index[static_cast<size_t>(i)]].item<float>());
      }
      state = {0, 0};
      kernels.scan_bfloat16(reinterpret_cast<const uint16_t*>(narrow.const_data_ptr()), 1003, threshold, found.data(),
                            index.data(), 2000, &state);
      EXPECT_EQ(state.count, (narrow.to(at::kFloat) >= threshold).sum().item<int64_t>());
      // A full buffer stops the scan, which then goes on where it stood.
      state = {0, 0};
      kernels.scan_float(scores.const_data_ptr<float>(), 1003, -kInfinity, found.data(), index.data(), 200, &state);
      EXPECT_LE(state.count, 200);
      EXPECT_EQ(state.position, state.count);
      EXPECT_LT(state.position, 1003);
    }
  }
}

}  // namespace
}  // namespace vixen
