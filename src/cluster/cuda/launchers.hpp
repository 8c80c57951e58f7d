// The launchers of 2-means' CUDA kernels; cuda/table.cpp names them. As kernels/cuda/launchers.hpp.
#pragma once

#include "cluster/device_table.hpp"

namespace vixen::cuda {

#define VIXEN_LAUNCHER(name, Args) int name(const Args& args, int64_t count, CUstream_st* stream);
VIXEN_CLUSTER_KERNELS(VIXEN_LAUNCHER)
#undef VIXEN_LAUNCHER

}  // namespace vixen::cuda
