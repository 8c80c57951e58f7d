// A keyed shuffle: what every sampler starts from.
#pragma once

#include <cstdint>
#include <span>

namespace vixen {

/// Shuffles in place, keyed by (seed, epoch). Local.
void shuffle(std::span<int64_t> items, uint64_t seed, uint64_t epoch);
/// [0, n) shuffled. Local.
void fill_shuffled_order(uint64_t seed, uint64_t epoch, std::span<int64_t> order);

}  // namespace vixen
