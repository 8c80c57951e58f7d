// A keyed shuffle: what every sampler starts from.
#pragma once

#include <cstdint>
#include <vector>

namespace vixen {

/// Shuffles in place, keyed by (seed, epoch). Local.
void shuffle(std::vector<int64_t>& items, uint64_t seed, uint64_t epoch);
/// [0, n) shuffled.
std::vector<int64_t> shuffled_order(int64_t n, uint64_t seed, uint64_t epoch);

}  // namespace vixen
