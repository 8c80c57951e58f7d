// The inner loops of the search on a CPU, compiled for several instruction sets and chosen when the program runs. All
// variants give the same results to the bit.
#pragma once

#include <cstdint>

namespace vixen {

/// Where a scan stopped, and how many candidates it has appended in all.
struct ScanState {
  int64_t position = 0;  // next score to look at
  int64_t count = 0;     // filled places of the output arrays
};

struct ScanKernels {
  /// Appends every score >= threshold of scores[state.position, n) to out_score and its index to out_index. Stops early
  /// when fewer than kScanChunk of `room` places are left.
  void (*scan_float)(const float* scores, int64_t n, float threshold, float* out_score, int32_t* out_index,
                     int64_t room, ScanState* state);
  /// The same for bfloat16 bits.
  void (*scan_bfloat16)(const uint16_t* scores, int64_t n, float threshold, float* out_score, int32_t* out_index,
                        int64_t room, ScanState* state);
  /// The canonical dot product of a, b [d], still in float64: product i goes to lane i % 16, each lane is summed in
  /// order, the lanes are added as a tree (j + 8, + 4, + 2, + 1). Products of floats are exact in float64, so fused and
  /// separate multiply-adds agree.
  double (*dot)(const float* a, const float* b, int64_t d);
  /// n finite numbers in float16 bits -> the same in float32, exactly.
  void (*widen_float16)(const uint16_t* from, int64_t n, float* to);
};

constexpr int64_t kScanChunk = 64;  // scores that are tested together
constexpr int64_t kDotLanes = 16;

/// The variant for this machine.
const ScanKernels& scan_kernels();

// The variants, by the flags of the file that defines them.
ScanKernels scan_kernels_baseline();
ScanKernels scan_kernels_avx2();
ScanKernels scan_kernels_avx512();

}  // namespace vixen
