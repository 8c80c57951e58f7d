// Arithmetic of balanced 2-means: exact sums, halves, seeds and depths.
#include "cluster/two_means_arithmetic.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "cluster/balanced_two_means.hpp"
#include "cluster/device_kernels.hpp"

namespace vixen {
namespace {

at::Tensor random_rows(int64_t n, int64_t width) {
  return at::randn({n, width}, at::make_generator<at::CPUGeneratorImpl>(5), at::dtype(at::kFloat));
}

at::Tensor unit_rows_by_reference(const at::Tensor& rows) {
  at::Tensor unit = at::empty(rows.sizes(), at::kFloat);
  two_means::reference::unit_rows(rows, unit);
  return unit;
}

TEST(TwoMeansArithmetic, unit_rows_are_unit_and_on_the_grid) {
  at::Tensor rows = random_rows(50, 37);
  rows[7].zero_();
  rows[8].mul_(1e-30);
  rows[9].mul_(1e30);
  const at::Tensor unit = two_means::unit_rows_cpu(rows);
  EXPECT_TRUE(at::equal(unit, unit_rows_by_reference(rows)));
  EXPECT_EQ(unit[7].abs().max().item<float>(), 0);
  const at::Tensor wide = rows.to(at::kDouble), norm = wide.norm(2, {1}, true);
  const at::Tensor expected = wide / norm.clamp_min(1e-300);
  EXPECT_LE((unit.to(at::kDouble) - expected).abs().max().item<double>(), 0x1p-25 * 1.0001);
  const at::Tensor steps = unit.to(at::kDouble) * 0x1p24;
  EXPECT_TRUE(at::equal(steps, steps.round()));
}

TEST(TwoMeansArithmetic, dots_and_sums_are_exact_in_any_order) {
  const int64_t n = 200, width = 384;
  const at::Tensor unit = two_means::unit_rows_cpu(random_rows(n, width));
  const float* rows = unit.const_data_ptr<float>();
  std::vector<double> difference(width), sum(width, 0.0), backward(width, 0.0), scratch;
  two_means::add_row(difference.data(), rows, -1.0, width);
  two_means::add_row(difference.data(), rows + width, 1.0, width);
  std::mt19937 random(3);
  std::vector<int64_t> order(width);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = 0; i < n; ++i) {
    const double* diff = difference.data();
    const double dot = two_means::exact_dot(rows + i * width, diff, width);
    std::shuffle(order.begin(), order.end(), random);
    double shuffled = 0;
    long double wide = 0;
    for (const int64_t d : order) {
      shuffled += static_cast<double>(rows[i * width + d]) * diff[d];
      wide += static_cast<long double>(rows[i * width + d]) * diff[d];
    }
    EXPECT_EQ(dot, shuffled);
    EXPECT_EQ(static_cast<long double>(dot), wide);
    two_means::add_row(sum.data(), rows + i * width, 1.0, width);
    two_means::add_row(backward.data(), rows + (n - 1 - i) * width, 1.0, width);
  }
  EXPECT_EQ(sum, backward);
  for (int64_t i = 0; i < n; ++i) two_means::add_row(sum.data(), rows + i * width, -1.0, width);
  EXPECT_EQ(sum, std::vector<double>(width, 0.0));
}

TEST(TwoMeansArithmetic, centroid_difference_is_that_of_normalised_means) {
  std::vector<double> scratch, difference(3);
  const std::vector<double> first = {3, 4, 0}, second = {0, 0, -2}, zero = {0, 0, 0};
  EXPECT_EQ(two_means::centroid_difference(first.data(), second.data(), difference.data(), 3, scratch), 7.0);
  EXPECT_NEAR(difference[0], -0.6, 0x1p-24);
  EXPECT_NEAR(difference[1], -0.8, 0x1p-24);
  EXPECT_EQ(difference[2], -1.0);
  EXPECT_EQ(two_means::centroid_difference(zero.data(), zero.data(), difference.data(), 3, scratch), 0.0);
  EXPECT_EQ(difference, zero);
}

TEST(TwoMeansArithmetic, sort_keys_order_like_score_then_place) {
  const std::vector<float> ascending = {-INFINITY, -2.5f, -1e-30f, 0.0f, 1e-30f, 0.5f, INFINITY};
  for (size_t i = 0; i + 1 < ascending.size(); ++i) {
    EXPECT_LT(two_means::sort_key(ascending[i], 9), two_means::sort_key(ascending[i + 1], 0));
  }
  EXPECT_LT(two_means::sort_key(0.25f, 3), two_means::sort_key(0.25f, 4));
  EXPECT_EQ(two_means::sort_key(-0.0f, 3), two_means::sort_key(0.0f, 3));
}

TEST(TwoMeansArithmetic, halves_take_the_lowest_scores_and_the_odd_row) {
  std::mt19937 random(1);
  std::vector<uint64_t> keys;
  for (const int64_t m : {2, 3, 7, 100, 1001}) {
    std::vector<float> scores(static_cast<size_t>(m));
    for (float& score : scores) score = static_cast<float>(random() % 10);  // many ties
    std::vector<int64_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return scores[static_cast<size_t>(a)] < scores[static_cast<size_t>(b)];
    });
    std::vector<uint8_t> side(scores.size()), expected(scores.size(), 1);
    for (int64_t i = 0; i < (m + 1) / 2; ++i) expected[static_cast<size_t>(order[static_cast<size_t>(i)])] = 0;
    two_means::split_in_half(scores.data(), m, side.data(), keys);
    EXPECT_EQ(side, expected) << m;
  }
}

TEST(TwoMeansArithmetic, seeds_are_distinct_and_spread) {
  for (const int64_t m : {2, 3, 10}) {
    std::vector<int> first_count(static_cast<size_t>(m)), second_count(static_cast<size_t>(m));
    for (uint64_t node = 1; node <= 3000; ++node) {
      const auto [first, second] = two_means::seed_places(1, 2, node, m);
      ASSERT_NE(first, second);
      ASSERT_TRUE(0 <= first && first < m && 0 <= second && second < m);
      ++first_count[static_cast<size_t>(first)];
      ++second_count[static_cast<size_t>(second)];
    }
    for (int64_t i = 0; i < m; ++i) {
      EXPECT_NEAR(first_count[static_cast<size_t>(i)], 3000.0 / static_cast<double>(m), 150);
      EXPECT_NEAR(second_count[static_cast<size_t>(i)], 3000.0 / static_cast<double>(m), 150);
    }
  }
  EXPECT_NE(two_means::seed_places(1, 2, 5, 1000000), two_means::seed_places(1, 3, 5, 1000000));
}

TEST(TwoMeansDepth, of_cluster_sizes_and_free_vectors) {
  EXPECT_EQ(depth_for_cluster_size(1000, 1000), 0);
  EXPECT_EQ(depth_for_cluster_size(1000, 5000), 0);
  EXPECT_EQ(depth_for_cluster_size(0, 16), 0);
  EXPECT_EQ(depth_for_cluster_size(1000, 999), 1);
  EXPECT_EQ(depth_for_cluster_size(1024, 16), 6);
  EXPECT_EQ(depth_for_cluster_size(1025, 16), 7);
  EXPECT_EQ(depth_for_cluster_size(17587, 16), 11);  // 2^11 leaves of 8 or 9
  EXPECT_EQ(depth_for_free_vectors(65536, 1305265), 16);
  EXPECT_EQ(depth_for_free_vectors(65535, 1305265), 16);
  EXPECT_EQ(depth_for_free_vectors(65537, 1305265), 17);
  EXPECT_EQ(depth_for_free_vectors(65536, 17278), 14);
  EXPECT_EQ(depth_for_free_vectors(16384, 16384), 14);
  EXPECT_EQ(depth_for_free_vectors(1, 100), 0);
  EXPECT_EQ(depth_for_free_vectors(5, 1), 0);
}

}  // namespace
}  // namespace vixen
