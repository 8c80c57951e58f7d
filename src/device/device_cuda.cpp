// GPUs: choice, deterministic numerics.
#include "device/device_cuda.hpp"

#include <ATen/Context.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include <fmt/format.h>
#include <cstdlib>

#include "base/check.hpp"
#include "device/device.hpp"
#include "device/gpu_facts.hpp"
#include "device/nvml.hpp"

namespace vixen::detail {

int count_gpus() {
  return static_cast<int>(c10::cuda::device_count());
}

std::string gpu_bus_id(int index) {
  char id[32] = "";
  if (index >= count_gpus() || cudaDeviceGetPCIBusId(id, sizeof(id), index) != cudaSuccess) return {};
  return id;
}

std::string gpu_uuid(int index) {
  cudaDeviceProp properties = {};
  if (index >= count_gpus() || cudaGetDeviceProperties(&properties, index) != cudaSuccess) return {};
  std::string text;
  for (const char byte : properties.uuid.bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

int64_t gpu_l2_bytes(int index) {
  int bytes = 0;
  if (index >= count_gpus() || cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, index) != cudaSuccess) return 0;
  return bytes;
}

void select_gpu(int index) {
  const int gpus = count_gpus();
  if (gpus == 0)
    fail_user("device = cuda: found no usable GPU on this node; expected one a rank (or use --device cpu)");
  if (index >= gpus) {
    fail_user(
        "device = cuda: found {} GPU(s) on this node, expected one for each rank, at least {}; start fewer ranks a "
        "node",
        gpus, index + 1);
  }
  // Read by cuBLAS when its first handle is made: fixed workspaces make its sums reproducible.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  // Batches differ in size from step to step: segments that grow leave no gaps that a larger one does not fit into.
  // Before the first allocation; what the user says in PyTorch's variables holds.
  if (std::getenv("PYTORCH_ALLOC_CONF") == nullptr && std::getenv("PYTORCH_CUDA_ALLOC_CONF") == nullptr)
    c10::CachingAllocator::setAllocatorSettings("expandable_segments:True");
  at::globalContext().lazyInitDevice(at::kCUDA);
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
  auto& context = at::globalContext();
  context.setDeterministicCuDNN(true);
  context.setBenchmarkCuDNN(false);
  context.setAllowTF32CuBLAS(false);
  context.setAllowTF32CuDNN(false);
  context.setAllowBF16ReductionCuBLAS(false);
  context.setAllowFP16ReductionCuBLAS(false);
}

}  // namespace vixen::detail

namespace vixen {

bool has_cuda_build() {
  return true;
}

CudaVersions cuda_versions() {
  const auto text = [](int version) {
    return version == 0 ? std::string() : fmt::format("{}.{}", version / 1000, version % 1000 / 10);
  };
  int driver = 0, runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
  return {text(driver), text(runtime)};
}

std::vector<GpuFacts> gpu_facts(int own) {
  std::vector<GpuFacts> all;
  const int gpus = detail::count_gpus();
  for (int index = 0; index < gpus; ++index) {
    GpuFacts facts;
    facts.index = index;
    facts.bus_id = detail::gpu_bus_id(index);
    facts.numa_node = gpu_numa_node(index);
    cudaDeviceProp properties = {};
    if (cudaGetDeviceProperties(&properties, index) == cudaSuccess) {
      facts.name = properties.name;
      facts.major = properties.major;
      facts.minor = properties.minor;
    }
    size_t free = 0, total = 0;
    if (index == own && cudaSetDevice(index) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess) {
      facts.free_bytes = static_cast<int64_t>(free);
      facts.total_bytes = static_cast<int64_t>(total);
    }
    for (int other = 0; other < gpus; ++other) {
      int reaches = 0;
      if (other != index && cudaDeviceCanAccessPeer(&reaches, index, other) == cudaSuccess && reaches != 0)
        facts.peers.push_back(other);
    }
    add_nvml_facts(facts);
    all.push_back(std::move(facts));
  }
  return all;
}

}  // namespace vixen
