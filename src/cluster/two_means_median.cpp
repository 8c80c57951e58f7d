// The median of each set by its digits: counts of the highest digit say in which bucket it is, those of the next digit
// within the bucket say where there, and so on. Equal scores are dealt in the order of ranks.
#include "cluster/two_means_median.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "base/check.hpp"
#include "cluster/two_means_arithmetic.hpp"

namespace vixen::two_means {
namespace {

constexpr int kScoreBits = 32;
// Few sets: fewer rounds of larger tables.
constexpr int64_t kFewSets = 16;
// Fewer rows than this are not worth waking threads for.
constexpr int64_t kParallelRows = int64_t{1} << 20;

uint32_t score_key(float score) {
  return static_cast<uint32_t>(sort_key(score, 0) >> 32);
}

// Sums over ranks of counts [n, buckets], in place.
void sum_counts(at::Tensor& counts, Communicator& comm) {
  at::Tensor device = counts.to(comm.device());
  comm.all_reduce_sum(device);
  counts = device.to(at::kCPU);
}

// Where the last row of the first half is found: its score, and how many of its like belong to the first half.
struct Border {
  uint32_t key = 0;
  int64_t left = 0;  // rows of the first half that are not below what is known of the key
};

std::vector<Border> find_borders(std::span<const ScoredSet> sets, Communicator& comm) {
  const auto n = std::ssize(sets);
  std::vector<Border> borders;
  borders.reserve(sets.size());
  for (const ScoredSet& set : sets) borders.push_back({0, (set.size + 1) / 2});
  const int digit = n <= kFewSets ? 16 : 8;
  for (int known = 0; known < kScoreBits; known += digit) {
    const int shift = kScoreBits - known - digit;
    const int64_t buckets = int64_t{1} << digit;
    at::Tensor counts = at::zeros({n, buckets}, at::kLong);
#pragma omp parallel for schedule(dynamic) if (n > 1)
    for (int64_t i = 0; i < n; ++i) {
      const auto& set = sets[static_cast<size_t>(i)];
      const uint64_t prefix = uint64_t{borders[static_cast<size_t>(i)].key} >> (shift + digit);
      auto* row = counts.mutable_data_ptr<int64_t>() + i * buckets;
      for (const float score : set.scores) {
        const uint64_t key = score_key(score);
        if (key >> (shift + digit) == prefix) ++row[(key >> shift) & static_cast<uint64_t>(buckets - 1)];
      }
    }
    sum_counts(counts, comm);
    for (int64_t i = 0; i < n; ++i) {
      Border& border = borders[static_cast<size_t>(i)];
      const auto* row = counts.const_data_ptr<int64_t>() + i * buckets;
      int64_t bucket = 0;
      while (border.left > row[bucket]) {
        border.left -= row[bucket++];
        VIXEN_CHECK(bucket < buckets, "set {} of {} rows has fewer than its half", i,
                    sets[static_cast<size_t>(i)].size);
      }
      border.key |= static_cast<uint32_t>(bucket) << shift;
    }
  }
  return borders;
}

void split_alone(std::span<const ScoredSet> sets) {
  int64_t rows = 0;
  for (const ScoredSet& set : sets) rows += std::ssize(set.scores);
#pragma omp parallel if (rows >= kParallelRows)
  {
    std::vector<uint64_t> keys;
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < std::ssize(sets); ++i) {
      const auto& set = sets[static_cast<size_t>(i)];
      split_in_half(set.scores.data(), set.size, set.side.data(), keys);
    }
  }
}

}  // namespace

std::vector<int64_t> sums_of_lower_ranks(const std::vector<int64_t>& values, Communicator& comm) {
  std::vector<int64_t> sums(values.size(), 0);
  if (comm.world_size() == 1) return sums;
  const auto all =
      comm.all_gather_host({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t)});
  std::vector<int64_t> theirs(values.size());
  for (int rank = 0; rank < comm.rank(); ++rank) {
    std::memcpy(theirs.data(), all[static_cast<size_t>(rank)].data(), all[static_cast<size_t>(rank)].size());
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += theirs[i];
  }
  return sums;
}

void split_in_halves(std::span<const ScoredSet> sets, Communicator& comm) {
  if (comm.world_size() == 1) {
    split_alone(sets);
    return;
  }
  const auto borders = find_borders(sets, comm);
  std::vector<int64_t> equals;
  equals.reserve(sets.size());
  for (size_t i = 0; i < sets.size(); ++i)
    equals.push_back(std::count_if(sets[i].scores.begin(), sets[i].scores.end(),
                                   [&](float score) { return score_key(score) == borders[i].key; }));
  const auto taken = sums_of_lower_ranks(equals, comm);
  for (size_t i = 0; i < sets.size(); ++i) {
    int64_t left = borders[i].left - taken[i];  // of the equal ones, that lower ranks leave to the first half
    for (size_t row = 0; row < sets[i].scores.size(); ++row) {
      const uint32_t key = score_key(sets[i].scores[row]);
      sets[i].side[row] = key > borders[i].key || (key == borders[i].key && left-- <= 0);
    }
  }
}

}  // namespace vixen::two_means
