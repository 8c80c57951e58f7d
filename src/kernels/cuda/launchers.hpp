// The launchers of CUDA kernels: cuda/NAME.cu defines those that exist, cuda/table.cpp names them.
//   Each takes the arguments of its row of kernels/table.hpp with device pointers, enqueues all `count` items on
//   `stream` and returns cudaGetLastError().
#pragma once

#include "kernels/table.hpp"

namespace vixen::cuda {

#define VIXEN_LAUNCHER(name, family, Args) int name(const Args& args, int64_t count, CUstream_st* stream);
VIXEN_KERNELS(VIXEN_LAUNCHER)
#undef VIXEN_LAUNCHER

}  // namespace vixen::cuda
