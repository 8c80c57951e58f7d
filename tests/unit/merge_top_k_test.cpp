// Merging ranked lists: the total order, padding, any k, and the same as one sort of everything.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "base/random.hpp"
#include "search/top_k.hpp"

namespace vixen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TopK list(const std::vector<int64_t>& ids, const std::vector<float>& scores) {
  return {at::tensor(ids, at::kLong).unsqueeze(0), at::tensor(scores, at::kFloat).unsqueeze(0)};
}

void expect_list(const TopK& found, const std::vector<int64_t>& ids, const std::vector<float>& scores) {
  EXPECT_TRUE(at::equal(found.ids, at::tensor(ids, at::kLong).unsqueeze(0)));
  EXPECT_TRUE(at::equal(found.scores, at::tensor(scores, at::kFloat).unsqueeze(0)));
}

TEST(MergeTopK, HigherScoresThenLowerIds) {
  const TopK a = list({7, 2, 9}, {3, 2, 1}), b = list({5, 1, 8}, {3, 2, 2});
  expect_list(merge_top_k(a, b, 5), {5, 7, 1, 2, 8}, {3, 3, 2, 2, 2});
  expect_list(merge_top_k(b, a, 5), {5, 7, 1, 2, 8}, {3, 3, 2, 2, 2});
}

TEST(MergeTopK, MissingPlacesStayLast) {
  const TopK a = list({4, -1}, {-2, -kInfinity}), b = list({-1, -1}, {-kInfinity, -kInfinity});
  expect_list(merge_top_k(a, b, 3), {4, -1, -1}, {-2, -kInfinity, -kInfinity});
  expect_list(merge_top_k(b, b, 1), {-1}, {-kInfinity});
}

TEST(MergeTopK, ListsOfDifferentLength) {
  const TopK a = list({1, 2, 3, 4}, {9, 7, 5, 3}), b = list({10}, {6});
  expect_list(merge_top_k(a, b, 2), {1, 2}, {9, 7});
  expect_list(merge_top_k(b, a, 7), {1, 2, 10, 3, 4, -1, -1}, {9, 7, 6, 5, 3, -kInfinity, -kInfinity});
}

TEST(MergeTopK, AnyDealIsTheSameAsOneSort) {
  constexpr int64_t kLabels = 300, kTop = 40, kShards = 5;
  std::vector<float> scores(kLabels);
  for (size_t i = 0; i < kLabels; ++i) {
    scores[i] = static_cast<float>(random_below(1, RandomStream::kSample, 0, i, 60));  // many ties
  }
  const auto top = [&](const std::vector<int64_t>& labels) {
    std::vector<int64_t> order = labels;
    std::sort(order.begin(), order.end(), [&](int64_t x, int64_t y) {
      const float a = scores[static_cast<size_t>(x)], b = scores[static_cast<size_t>(y)];
      return a != b ? a > b : x < y;
    });
    order.resize(kTop, -1);
    std::vector<float> values;
    values.reserve(order.size());
    for (const int64_t id : order) values.push_back(id < 0 ? -kInfinity : scores[static_cast<size_t>(id)]);
    return list(order, values);
  };
  std::vector<int64_t> all(kLabels);
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::vector<int64_t>> deal(kShards);
  for (const int64_t id : all)
    deal[random_below(2, RandomStream::kSample, 0, static_cast<uint64_t>(id), kShards)].push_back(id);
  TopK merged = top(deal[0]);
  for (size_t shard = 1; shard < kShards; ++shard) merged = merge_top_k(top(deal[shard]), merged, kTop);
  const TopK expected = top(all);
  EXPECT_TRUE(at::equal(merged.ids, expected.ids));
  EXPECT_TRUE(at::equal(merged.scores, expected.scores));
}

}  // namespace
}  // namespace vixen
