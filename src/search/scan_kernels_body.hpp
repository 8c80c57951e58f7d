// The body of scan_kernels_*.cpp: plain loops that the compiler vectorises for each file's instruction set. No inline
// function of a library is used here: the linker could keep this file's copy of it for the whole program. A file that
// includes this one defines vixen::(anonymous)::widen_lanes(from, to) first: kDotLanes finite float16 bits in float32,
// exactly, whether or not the processor flushes denormals.
#pragma once

#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

inline float to_float(float value) {
  return value;
}
inline float to_float(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}

template <typename Score>
void scan(const Score* scores, int64_t n, float threshold, float* out_score, int32_t* out_index, int64_t room,
          ScanState* state) {
  int64_t position = state->position;
  int64_t count = state->count;
  for (; position + kScanChunk <= n && room - count >= kScanChunk; position += kScanChunk) {
    const Score* chunk = scores + position;
    int any = 0;
    for (int64_t j = 0; j < kScanChunk; ++j) any |= static_cast<int>(to_float(chunk[j]) >= threshold);
    if (any == 0) continue;  // the usual case
    for (int64_t j = 0; j < kScanChunk; ++j) {
      const float score = to_float(chunk[j]);
      out_score[count] = score;
      out_index[count] = static_cast<int32_t>(position + j);
      count += static_cast<int64_t>(score >= threshold);
    }
  }
  if (room - count >= kScanChunk) {  // fewer than kScanChunk scores are left
    for (; position < n; ++position) {
      const float score = to_float(scores[position]);
      out_score[count] = score;
      out_index[count] = static_cast<int32_t>(position);
      count += static_cast<int64_t>(score >= threshold);
    }
  }
  state->position = position;
  state->count = count;
}

double dot(const float* a, const float* b, int64_t d) {
  double lanes[kDotLanes] = {};
  int64_t i = 0;
  for (; i + kDotLanes <= d; i += kDotLanes) {
    for (int64_t j = 0; j < kDotLanes; ++j) lanes[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
  }
  for (int64_t j = 0; i + j < d; ++j) lanes[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
  for (int64_t half = kDotLanes / 2; half > 0; half /= 2) {
    for (int64_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

void widen_float16(const uint16_t* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes) widen_lanes(from + i, to + i);
  if (i == n) return;
  uint16_t last[kDotLanes] = {};
  for (int64_t j = 0; i + j < n; ++j) last[j] = from[i + j];
  float wide[kDotLanes];
  widen_lanes(last, wide);
  for (int64_t j = 0; i + j < n; ++j) to[i + j] = wide[j];
}

constexpr ScanKernels kKernels = {
    .scan_float = scan<float>, .scan_bfloat16 = scan<uint16_t>, .dot = dot, .widen_float16 = widen_float16};

}  // namespace
}  // namespace vixen
