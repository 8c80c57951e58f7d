#include "emulated/emulated_table.hpp"

#include "cluster/device_table.hpp"
#include "emulated/emulator.hpp"
#include "kernels/cuda_kernels.hpp"
#include "objective/device_table.hpp"
#include "search/device_table.hpp"

// The very file that a build for CUDA compiles, over other names: such a build has both kinds of kernels.
#define cuda emulated_cuda
#define cuda_kernels emulated_cuda_kernels
#define cuda_search_kernels emulated_cuda_search_kernels
#define cuda_cluster_kernels emulated_cuda_cluster_kernels
#define cuda_objective_kernels emulated_cuda_objective_kernels
#include "cluster/cuda/table.cpp"
#include "kernels/cuda/table.cpp"
#include "objective/cuda/table.cpp"
#include "search/cuda/table.cpp"
#undef cuda
#undef cuda_kernels
#undef cuda_search_kernels
#undef cuda_cluster_kernels
#undef cuda_objective_kernels

namespace vixen::emulated {
namespace {

template <class Args, CudaFunction<Args> CudaTable::*kRow>
void all_at_once(const Args& args, int64_t begin, int64_t end) {
  if (begin != 0) fail("the work of a CUDA kernel was divided");
  if (const int status = (emulated_cuda_kernels().*kRow)(args, end, nullptr); status != 0)
    fail("a launcher returned " + std::to_string(status));
}

CpuKernels make_kernels() {
  CpuKernels kernels = **cpu_variants().first;
  const CudaTable& with = emulated_cuda_kernels();
#define VIXEN_REPLACE(row, family, Args) \
  if (with.row) kernels.table.row = all_at_once<Args, &CudaTable::row>;
  VIXEN_KERNELS(VIXEN_REPLACE)
#undef VIXEN_REPLACE
  kernels.isa = "emulated CUDA";
  return kernels;
}

}  // namespace

const CpuKernels& cpu_kernels_with_cuda_rows() {
  static const CpuKernels kernels = make_kernels();
  return kernels;
}

}  // namespace vixen::emulated
