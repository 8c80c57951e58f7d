// GPUs: choice, deterministic numerics.
#include "device/device_cuda.hpp"

#include <ATen/Context.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include <cstdlib>

#include "base/check.hpp"

namespace vixen::detail {

int count_gpus() {
  return static_cast<int>(c10::cuda::device_count());
}

std::string gpu_bus_id(int index) {
  char id[32] = "";
  if (index >= count_gpus() || cudaDeviceGetPCIBusId(id, sizeof(id), index) != cudaSuccess) return {};
  return id;
}

void select_gpu(int local_rank) {
  const int gpus = count_gpus();
  if (gpus == 0)
    fail_user("device = cuda: found no usable GPU on this node; expected one a rank (or use --device cpu)");
  if (local_rank >= gpus) {
    fail_user(
        "device = cuda: found {} GPU(s) on this node, expected one for each rank, at least {}; start fewer ranks a "
        "node",
        gpus, local_rank + 1);
  }
  // Read by cuBLAS when its first handle is made: fixed workspaces make its sums reproducible.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().lazyInitDevice(at::kCUDA);
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(local_rank));
  auto& context = at::globalContext();
  context.setDeterministicCuDNN(true);
  context.setBenchmarkCuDNN(false);
  context.setAllowTF32CuBLAS(false);
  context.setAllowTF32CuDNN(false);
  context.setAllowBF16ReductionCuBLAS(false);
  context.setAllowFP16ReductionCuBLAS(false);
}

}  // namespace vixen::detail
