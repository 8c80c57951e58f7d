// The mask of dropout on CUDA; counter and key as in kernels/dropout.hpp.
#pragma once

#include "base/philox.hpp"
#include "kernels/cuda/vectors.cuh"

namespace vixen {

/// Counter words of one row.
struct RowMask {
  uint32_t sequence, place, step;
};
__device__ inline uint32_t step_of(const DropoutKey& dropout) {
  return dropout.device_step ? static_cast<uint32_t>(global_load(dropout.device_step)) : dropout.step;
}
__device__ inline RowMask row_mask(const RowKeys& keys, const DropoutKey& dropout, int64_t row) {
  return {static_cast<uint32_t>(global_load(keys.sequence + row)),
          dropout.site << 16 | static_cast<uint32_t>(global_load(keys.position + row)), step_of(dropout)};
}

/// bits.word[i] by selection: an index that is not known when this is compiled would put the words into memory.
__device__ inline uint32_t word_of(const PhiloxBlock& bits, int i) {
  const uint32_t low = i % 2 == 0 ? bits.word[0] : bits.word[1], high = i % 2 == 0 ? bits.word[2] : bits.word[3];
  return i < 2 ? low : high;
}

/// What columns first .. first + N - 1 of a row are multiplied with: 0 or 1 / (1 - p). N divides 8 and `first`, so that
/// one Philox block, which is eight columns, has them all.
template <int N>
__device__ Floats<N> dropout_factors(const RowMask& row, const DropoutKey& dropout, int64_t first) {
  const PhiloxBlock bits =
      philox_block({{static_cast<uint32_t>(first / 8), row.sequence, row.place, row.step}}, dropout.key0, dropout.key1);
  Floats<N> factors;
#pragma unroll
  for (int e = 0; e < N; ++e) {
    const int element = static_cast<int>(first % 8) + e;
    const uint32_t word = word_of(bits, element / 2);
    const uint32_t draw = element % 2 == 0 ? word & 0xffffu : word >> 16;
    factors.at[e] = draw >= dropout.threshold ? dropout.scale : 0.0f;
  }
  return factors;
}

/// Bit e: whether column 8 block + e of a row is kept.
__device__ inline uint32_t kept_bits(const RowMask& row, const DropoutKey& dropout, uint32_t block) {
  const PhiloxBlock bits = philox_block({{block, row.sequence, row.place, row.step}}, dropout.key0, dropout.key1);
  uint32_t kept = 0;
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const uint32_t word = bits.word[e / 2], draw = e % 2 == 0 ? word & 0xffffu : word >> 16;
    kept |= static_cast<uint32_t>(draw >= dropout.threshold) << e;
  }
  return kept;
}

}  // namespace vixen
