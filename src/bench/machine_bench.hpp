// What the machine can do: the rates that the shares of `vixen bench` are of.
#pragma once

#include <ATen/core/Tensor.h>

namespace vixen {

struct MachineRates {
  // FLOP/s of a [4096, 384] x [384, 1536] product, a small encoder's feed-forward; on a GPU, which that would not fill,
  // of [8192, 4096] x [4096, 4096].
  double gemm_fp32_flops = 0;
  double gemm_bf16_flops = 0;   // the same in bfloat16
  double copy_bytes_per_s = 0;  // of a copy, read + write
};

/// Of this rank's threads or GPU. Local; takes two seconds.
MachineRates bench_machine(at::Device device);

}  // namespace vixen
