// Launchers of the CUDA dropout kernels: raw device pointers in, cudaError_t out, nothing else.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cpu_kernels.hpp"

namespace vixen {

/// y = x * mask * scale, [rows, width] in the given storage.
cudaError_t launch_dropout_apply(const void* x, void* y, Storage storage, int64_t rows, int64_t width, RowKeys keys,
                                 DropoutKey dropout, cudaStream_t stream);

}  // namespace vixen
