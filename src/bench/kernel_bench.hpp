// Timings of the kernels between the matrix products of a transformer layer, post-norm or decoder, for
// `vixen bench`.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace vixen {

struct KernelTiming {
  std::string name;         // "norm backward"
  double microseconds = 0;  // shortest run of the kernel that runs by default on the device
  double gb_per_s = 0;      // of the activations it must read and write at least once
  double reference_microseconds = 0;
};

/// Each kernel once forward and once backward on a device: T = positions in sequences of about five, as short titles
/// have, of width D = width, F = feed_forward, with dropout 0.1; dtype float32 or bfloat16. Then those of decoders:
/// causal attention over sequences of 64 positions, three query heads to a key-value head where `heads` allows it, no
/// dropout. Takes some seconds.
std::vector<KernelTiming> bench_kernels(at::Device device, int64_t positions, int64_t width, int64_t feed_forward,
                                        int64_t heads, at::ScalarType dtype);

}  // namespace vixen
