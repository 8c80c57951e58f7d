// The CUDA kernels of the table, compiled for the CPU, in the place of the fused CPU kernels.
#pragma once

#include "cluster/device_table.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/table.hpp"
#include "objective/device_table.hpp"
#include "search/device_table.hpp"

namespace vixen {

/// src/kernels/cuda/table.cpp over the emulator: the launchers that exist.
const CudaTable& emulated_cuda_kernels();
/// src/search/cuda/table.cpp, likewise.
const SearchTable& emulated_cuda_search_kernels();
/// src/cluster/cuda/table.cpp, likewise.
const ClusterTable& emulated_cuda_cluster_kernels();
/// src/objective/cuda/table.cpp, likewise.
const ObjectiveTable& emulated_cuda_objective_kernels();

namespace emulated {

/// The CPU's kernels, but those of the rows that have a CUDA kernel are that kernel, emulated. One thread must run
/// them.
const CpuKernels& cpu_kernels_with_cuda_rows();

}  // namespace emulated
}  // namespace vixen
