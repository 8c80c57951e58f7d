// The one place where a process takes its device and numerics.
#pragma once

#include <ATen/core/Tensor.h>

#include "config/config.hpp"

namespace vixen {

/// Takes the device and sets how this process computes on it: threads, kernels, deterministic algorithms, precision of
/// products. Every command calls it through start_job, every test through its main, before the first tensor. threads:
/// at least 1. local_rank: the GPU, where device = cuda. UserError when there is no such GPU or the build has no CUDA.
at::Device set_numerics(const Config& config, int local_rank, int threads);

}  // namespace vixen
