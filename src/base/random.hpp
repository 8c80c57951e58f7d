// Counter-based random numbers: a value depends only on (seed, stream, a, b), never on who asks or in which order,
// so that sampling and dropout are the same for every world size and after every resume. The generator:
// base/philox.hpp.
#pragma once

#include <array>
#include <cstdint>

#include "base/philox.hpp"

namespace vixen {

/// What a draw is for: two purposes never share numbers.
enum class RandomStream : uint32_t {
  kShuffle = 1,       ///< order of queries or of clusters; a = epoch
  kPositive = 2,      ///< the one positive label of a query; a = epoch, b = query
  kLossPositive = 3,  ///< s_p of a loss term; a = step, b = row of the batch (term in the high bits)
  kCluster = 4,       ///< seeds of balanced 2-means; a = epoch, b = node of the tree
  kInit = 5,          ///< parameter initialisation; a = parameter number, b = element
  kDropout = 6,       ///< dropout sites; see kernels/dropout.hpp
  kSample = 7,        ///< anything sampled for reports
  kImageDropout = 8,  ///< sequences that go without their pictures; a = step, b = key of the sequence
  kMining = 9,        ///< a query's label among its mined ones; a = step, b = query and place
};

/// philox_block over arrays: 128-bit counter, 64-bit key, 128 random bits.
inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  const PhiloxBlock bits = philox_block({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
  return {bits.word[0], bits.word[1], bits.word[2], bits.word[3]};
}

/// 128 random bits for (seed, stream, a, b). The key is (seed low, seed high ^ stream), the counter (a, b).
inline std::array<uint32_t, 4> random_block(uint64_t seed, RandomStream stream, uint64_t a, uint64_t b) {
  return philox4x32({static_cast<uint32_t>(a), static_cast<uint32_t>(a >> 32), static_cast<uint32_t>(b),
                     static_cast<uint32_t>(b >> 32)},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32) ^ static_cast<uint32_t>(stream)});
}

/// A uniform double in [0, 1) with 53 bits.
inline double random_uniform(uint64_t seed, RandomStream stream, uint64_t a, uint64_t b) {
  const auto bits = random_block(seed, stream, a, b);
  return static_cast<double>((uint64_t{bits[0]} << 21) ^ (bits[1] >> 11)) * 0x1.0p-53;
}

/// A uniform integer in [0, bound), bound >= 1 (multiply-shift; bias below 2^-32 for bounds under 2^32).
inline uint64_t random_below(uint64_t seed, RandomStream stream, uint64_t a, uint64_t b, uint64_t bound) {
  const auto bits = random_block(seed, stream, a, b);
  const uint64_t word = (uint64_t{bits[0]} << 32) | bits[1];
  __extension__ using Wide = unsigned __int128;  // an extension under -Wpedantic
  return static_cast<uint64_t>((static_cast<Wide>(word) * bound) >> 64);
}

}  // namespace vixen
