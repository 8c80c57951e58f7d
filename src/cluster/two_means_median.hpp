// Sets of rows that all ranks share, divided in two halves by score: the order of scores is counted, never gathered.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.hpp"

namespace vixen::two_means {

/// This rank's rows of a set.
struct ScoredSet {
  int64_t size;                   // rows of all ranks
  std::span<const float> scores;  // of this rank's, finite
  std::span<uint8_t> side;        // of this rank's: receives 0 or 1
};

/// The first ceil(size / 2) rows of each set in the order (score, rank, place) get side 0, the others 1: what
/// split_in_half does with the rows of all ranks one after another. Tables of sets x 256 counts, or x 65,536 for few
/// sets, are summed over ranks. Collective: the same sets on every rank.
void split_in_halves(std::span<const ScoredSet> sets, Communicator& comm);

/// values [n] summed over the ranks below this one. Collective.
std::vector<int64_t> sums_of_lower_ranks(const std::vector<int64_t>& values, Communicator& comm);

}  // namespace vixen::two_means
