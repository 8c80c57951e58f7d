// Launches on ATen's current stream.
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "base/check.hpp"
#include "kernels/cuda_kernels.hpp"

namespace vixen {

void launch_on(at::Device device, const char* kernel, const std::function<int(CUstream_st*)>& launch) {
  const c10::cuda::CUDAGuard guard(device);
  const auto status = static_cast<cudaError_t>(launch(c10::cuda::getCurrentCUDAStream(device.index())));
  VIXEN_CHECK(status == cudaSuccess, "kernel {} on {}: {}", kernel, device.str(), cudaGetErrorString(status));
}

}  // namespace vixen
