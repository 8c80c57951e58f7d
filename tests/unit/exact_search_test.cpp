// The exact search against a brute force in float64: ties, duplicates, any k, block size, thread count and prefilter.
#include "search/exact_search.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/check.hpp"
#include "base/cpu_level.hpp"
#include "base/random.hpp"
#include "fixtures/fault.hpp"
#include "search/device_kernels.hpp"
#include "search/error_bound.hpp"
#include "search/exact_search_cpu.hpp"
#include "search/exact_search_device.hpp"
#include "search/int8_prefilter.hpp"
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
void check_all_ways(const ScaledRows& labels, const at::Tensor& queries, int64_t k, int64_t first_id = 0) {
  const TopK expected = brute_force(labels.wide(0, labels.size()), queries, k, first_id);
  std::vector<Prefilter> prefilters = {Prefilter::kAuto};
  for (const auto& kind : prefilter_kinds()) prefilters.push_back(kind.value);
  for (const Prefilter prefilter : prefilters) {
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
  // Products of bytes by every instruction set of this machine.
  const Int8Variants variants = int8_variants();
  for (int64_t i = 0; i < variants.count; ++i) {
    const LabelRows rows(labels, first_id, 900);
    expect_same(search_on_cpu(rows, *prepare_int8(*variants.first[i]), queries.contiguous(), k, /*block_queries=*/10,
                              /*show_progress=*/false),
                expected, fmt::format("k {} int8 by {}", k, name_of(variants.first[i]->level)));
  }
  // What a GPU runs, on the CPU, by its reference kernels.
  IndexConfig options;
  options.block_queries = 16;
  options.block_labels = 700;
  const DeviceLabels prepared(labels, first_id, /*part_labels=*/kGroupLabels);
  expect_same(search_on_device(prepared, queries.contiguous(), k, options, /*show_progress=*/false), expected,
              fmt::format("as on a device, k {}", k));
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

TEST(ExactSearch, OneCoordinateFarAboveTheRest) {
  // What a scale a row leaves for the other coordinates: next to nothing, in every third row.
  at::Tensor labels = unit(random_rows(3000, 40, 50)), queries = unit(random_rows(12, 40, 51));
  labels.slice(0, 0, 3000, 3).select(1, 7).fill_(1e4);
  queries.slice(0, 0, 12, 4).select(1, 7).fill_(-1e6);
  check_all_ways(labels, queries, 30);
}

TEST(ExactSearch, RowsAtTheEndsOfTheScale) {
  const at::Tensor labels = unit(random_rows(2000, 24, 52)), queries = unit(random_rows(8, 24, 53));
  for (const double scale : {1e17, 1e-12, 1e-25, 1e-40}) check_all_ways(labels * scale, queries, 15);
  at::Tensor mixed = labels.clone();
  mixed.slice(0, 0, 2000, 5).mul_(1e17);
  mixed.slice(0, 1, 2000, 5).zero_();
  mixed.slice(0, 2, 2000, 5).mul_(1e-42);  // denormal
  check_all_ways(mixed, queries, 900);
  check_all_ways(labels, queries * 1e-20, 15);
  check_all_ways(labels, at::zeros({3, 24}), 15);
}

TEST(ExactSearch, WidthsThatFillNoBlock) {
  for (const int64_t d : {1, 3, 63, 64, 65, 200}) {
    check_all_ways(unit(random_rows(700, d, 54)), unit(random_rows(9, d, 55)), 12);
  }
}

TEST(ExactSearch, DividedRowsAreRowsOfThatLength) {
  // float16 rows with their lengths beside them: as if they had been divided first.
  at::Tensor labels = (random_rows(2500, 50, 56) * at::pow(10.0, random_rows(2500, 1, 57, 4.0))).to(at::kHalf);
  labels[3].zero_();
  at::Tensor lengths = labels.to(at::kDouble).norm(2, 1);
  lengths[3] = 1;
  const ScaledRows rows(labels, lengths);
  EXPECT_TRUE(at::equal(rows.wide(0, 2500), (labels.to(at::kDouble) / lengths.unsqueeze(1)).to(at::kFloat)));
  check_all_ways(rows, unit(random_rows(11, 50, 58)), 25, 40);
}

TEST(ExactSearch, FlushedDenormalsChangeNothing) {
  const at::Tensor labels = unit(random_rows(1500, 40, 59)).to(at::kHalf) * 1e-6;  // denormal in float16
  const at::Tensor queries = unit(random_rows(6, 40, 60));
  IndexConfig options;
  options.prefilter = Prefilter::kInt8;
  const TopK before = ExactIndex(labels, 0, options).search(queries, 20);
  ASSERT_TRUE(at::globalContext().setFlushDenormal(true));
  const TopK flushed = ExactIndex(labels, 0, options).search(queries, 20);
  at::globalContext().setFlushDenormal(false);
  expect_same(flushed, before, "flushed");
}

TEST(ExactSearch, NothingOfTheSizeOfTheRowsIsHeldBesideThem) {
  const at::Tensor labels = unit(random_rows(3000, 64, 61)).to(at::kHalf);
  for (const auto& kind : prefilter_kinds()) {
    IndexConfig options;
    options.prefilter = kind.value;
    EXPECT_EQ(ExactIndex(labels, 0, options).bytes(), static_cast<int64_t>(labels.nbytes())) << kind.name;
  }
}

TEST(ExactSearch, RowsTooWideForAPrefilterAreRefusedByItAlone) {
  const at::Tensor labels = at::ones({3, kInt8LargestWidth + 1});
  IndexConfig options;
  options.prefilter = Prefilter::kInt8;
  EXPECT_EQ(test::fault_of([&] { ExactIndex(labels, 0, options); }),
            "search.prefilter = int8: rows are 65537 wide; expected at most 65536");
  options.prefilter = Prefilter::kAuto;
  EXPECT_EQ(ExactIndex(labels, 0, options).search(labels, 1).ids[2][0].item<int64_t>(), 0);
}

TEST(ExactSearch, EmptySidesArePadded) {
  for (const auto& kind : prefilter_kinds()) {
    IndexConfig options;
    options.prefilter = kind.value;
    const ExactIndex none(at::empty({0, 8}), 0, options);
    const TopK padded = none.search(at::ones({3, 8}), 4);
    EXPECT_TRUE(at::equal(padded.ids, at::full({3, 4}, -1, at::kLong)));
    EXPECT_TRUE(at::equal(padded.scores, at::full({3, 4}, -kInfinity)));
    EXPECT_EQ(ExactIndex(at::ones({3, 8}), 0, options).search(at::empty({0, 8}), 4).ids.size(0), 0);
    // Without columns every score is 0.
    EXPECT_TRUE(at::equal(ExactIndex(at::empty({5, 0}), 0, options).search(at::empty({2, 0}), 3).ids,
                          at::arange(3).expand({2, 3})));
  }
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
    EXPECT_TRUE(at::equal(scores, reference::canonical_dot(a, b))) << d;
    std::vector<ScanKernels> variants = {scan_kernels(), scan_kernels_baseline()};
    if (cpu_level() >= CpuLevel::kAvx2) variants.push_back(scan_kernels_avx2());
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

TEST(DeviceCandidates, KeysAreInTheTotalOrder) {
  const at::Tensor scores = at::tensor({3.5F, 3.5F, 1e-40F, 0.0F, 0.0F, -1e-40F, -2.0F, -2.0F, -1e30F});
  const at::Tensor labels = at::tensor({7, 2147483646, 5, 0, 1, 0, 2147483646, 2147483647, 3}, at::kInt);
  const at::Tensor keys = order_keys(scores, labels);
  EXPECT_TRUE((keys.slice(0, 1) < keys.slice(0, 0, -1)).all().item<bool>()) << keys;
  EXPECT_TRUE(at::equal(scores_of_keys(keys), scores));
}

TEST(DeviceSizes, FillTheCacheAndNoMore) {
  const IndexConfig config;
  constexpr int64_t kOfAnH100 = 50'000'000, kOfAnA100 = 40 << 20;
  const DeviceSizes large = device_sizes(config, 1'305'265, 768, 100, kOfAnH100);
  EXPECT_EQ(large.queries, 1024);
  EXPECT_EQ(large.labels, 8192);
  EXPECT_EQ(large.first_labels, 1280) << "more than the limit";
  EXPECT_EQ(large.limit, 1124);
  EXPECT_EQ(large.capacity, 9316);
  EXPECT_EQ(device_sizes(config, 1'305'265, 768, 100, kOfAnA100).labels, 8192);
  EXPECT_EQ(device_sizes(config, 1'305'265, 2048, 100, kOfAnA100).labels, 4352);
  EXPECT_EQ(device_sizes(config, 300, 768, 100, kOfAnH100).labels, 512) << "all there are, in whole groups";
  EXPECT_EQ(device_sizes(config, 1'305'265, 100'000, 100, kOfAnH100).labels, kGroupLabels) << "at the least";
  for (const int64_t k : {1, 1000, 100'000, 1'305'265}) {
    const DeviceSizes sizes = device_sizes(config, 1'305'265, 768, k, kOfAnH100);
    EXPECT_GE(sizes.limit, k);
    EXPECT_EQ(sizes.capacity, sizes.limit + sizes.labels) << "a tile finds room, whatever its scores";
    EXPECT_EQ(sizes.first_labels % kGroupLabels, 0);
    EXPECT_LE(sizes.first_labels, sizes.labels);
    EXPECT_GE(sizes.queries, 1);
    EXPECT_LE(sizes.queries * DeviceCandidates::bytes(sizes.capacity), int64_t{256} << 20);
  }
  // Operands and scores of a tile leave a quarter of the cache.
  EXPECT_LE((large.queries * 768 + large.labels * 768 + large.queries * large.labels) * 2, kOfAnH100 / 4 * 3);
}

TEST(ErrorModel, WeightsAreItsBoundLabelByLabel) {
  const ErrorModel model(768, /*bfloat16=*/true, at::kCPU);
  for (const double norm : {0.0, 1e-30, 1.0, 1e17})
    for (const double residual : {0.0, 1e-3})
      for (const BlockBound& label : {BlockBound{0, 0}, BlockBound{1, 0.002}, BlockBound{1e10, 1e7}}) {
        const auto [of_norm, of_residual, constant] = model.weights(norm, norm * residual);
        const float by_weights =
            of_norm * static_cast<float>(label.norm) + (of_residual * static_cast<float>(label.residual) + constant);
        const float bound = model.absolute(norm, norm * residual, label);
        EXPECT_NEAR(by_weights, bound, 1e-6 * static_cast<double>(bound)) << norm << " " << label.norm;
      }
}

TEST(ScanKernels, Float16IsWidenedExactly) {
  std::vector<uint16_t> bits;
  for (int32_t i = 0; i < 65536; ++i) {
    if ((i & 0x7C00) != 0x7C00) bits.push_back(static_cast<uint16_t>(i));  // finite
  }
  bits.pop_back();  // an odd number
  const auto n = static_cast<int64_t>(bits.size());
  const at::Tensor expected = at::from_blob(bits.data(), {n}, at::kHalf).to(at::kFloat);
  std::vector<ScanKernels> variants = {scan_kernels(), scan_kernels_baseline()};
  if (cpu_level() >= CpuLevel::kAvx2) variants.push_back(scan_kernels_avx2());
  for (const bool flush : {false, true}) {
    at::globalContext().setFlushDenormal(flush);
    for (const auto& kernels : variants) {
      std::vector<float> wide(bits.size());
      kernels.widen_float16(bits.data(), n, wide.data());
      EXPECT_EQ(std::memcmp(wide.data(), expected.const_data_ptr<float>(), bits.size() * sizeof(float)), 0);
    }
  }
  at::globalContext().setFlushDenormal(false);
}

TEST(ScanKernels, VariantsFindTheSame) {
  const at::Tensor scores = random_rows(1, 1003, 30, 2.0);
  const at::Tensor narrow = scores.to(at::kBFloat16);
  std::vector<ScanKernels> variants = {scan_kernels(), scan_kernels_baseline()};
  if (cpu_level() >= CpuLevel::kAvx2) variants.push_back(scan_kernels_avx2());
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
