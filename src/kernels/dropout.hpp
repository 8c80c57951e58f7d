// Dropout whose mask depends only on (seed, step, site, sequence, position, column): the same for every world size,
// packing and chunking, and recomputed, never stored.
//
// One Philox4x32-10 block gives eight 16-bit draws. An element is dropped when its draw < round(p * 65536); kept
// elements are scaled by 1 / (1 - p).
//   key     = (seed low, seed high ^ RandomStream::kDropout)
//   counter = (column / 8, sequence key low 32 bits, site << 16 | position, step low 32 bits)   element column % 8
// Element e of a block is the low half of word e / 2 when e is even, the high half when it is odd.
// For attention probabilities `site` is the layer's attention site, `position` the query position, and the column is
// head * 65536 + key position.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>

namespace vixen {

/// One site of dropout in one step. p = 0: no dropout (evaluation).
struct Dropout {
  double p = 0;
  uint64_t seed = 0;
  uint64_t step = 0;
  uint32_t site = 0;                     // < 65536
  const int64_t* device_step = nullptr;  // in the device's memory, read by its kernels in the place of step
  bool active() const { return p > 0; }
  /// Draws below it are dropped: round(p * 65536).
  uint32_t threshold() const { return static_cast<uint32_t>(std::lround(p * 65536)); }
};

/// Where the T packed positions belong: int64 [T] sequence_key of each position and int32 [T] position in its sequence.
struct TokenKeys {
  at::Tensor sequence;  // int64 [T]
  at::Tensor position;  // int32 [T]
};
/// Bytes of the keys of T positions.
constexpr int64_t token_key_bytes(int64_t positions) {
  return (int64_t{sizeof(int64_t)} + int64_t{sizeof(int32_t)}) * positions;
}
/// From int32 cu_seqlens [n+1] and int64 sequence_keys [n].
TokenKeys make_token_keys(const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys);

/// The mask itself, uint8 [T, width], 1 = kept: readable reference over ATen, any device.
at::Tensor dropout_mask(const TokenKeys& keys, int64_t width, const Dropout& dropout);

/// x [T, width] * mask / (1 - p), same dtype. Its own backward (apply it to the gradient). Fused on CPU and CUDA.
at::Tensor apply_dropout(const at::Tensor& x, const TokenKeys& keys, const Dropout& dropout);

}  // namespace vixen
