// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), for the host and for CUDA.
//
// The one definition: vector forms (ATen in kernels/dropout_reference.cpp, SIMD lanes in kernels/cpu_simd.inl) take its
// constants and are tested against it. No header but <cstdint>, so that every compiler of ours reads it.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define VIXEN_PHILOX_FUNCTION __host__ __device__
#else
#define VIXEN_PHILOX_FUNCTION
#endif

namespace vixen {

constexpr int kPhiloxRounds = 10;
/// What the counter's words 0 and 2 are multiplied by in a round, and what the key's words grow by after it.
constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u, kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxStep0 = 0x9E3779B9u, kPhiloxStep1 = 0xBB67AE85u;

/// 128 bits: a counter, or what is drawn for one.
struct PhiloxBlock {
  uint32_t word[4];
};

/// 128 random bits for a 128-bit counter under a 64-bit key.
VIXEN_PHILOX_FUNCTION inline PhiloxBlock philox_block(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t product0 = uint64_t{kPhiloxMultiplier0} * counter.word[0];
    const uint64_t product1 = uint64_t{kPhiloxMultiplier1} * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += kPhiloxStep0;
    key1 += kPhiloxStep1;
  }
  return counter;
}

}  // namespace vixen

#undef VIXEN_PHILOX_FUNCTION
