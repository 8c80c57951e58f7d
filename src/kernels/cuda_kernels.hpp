// What the dispatchers ask of CUDA: the table of its kernels, their launch, and flash attention. Defined by cuda/, or
// by no_cuda.cpp in builds without CUDA, which have none.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "kernels/dropout.hpp"
#include "kernels/packed_attention.hpp"
#include "kernels/table.hpp"

namespace vixen {

/// The kernels of this build for CUDA; all null without CUDA.
const CudaTable& cuda_kernels();

/// launch(stream) with ATen's current stream of `device`; an error that it returns is a BugError that names the kernel.
void launch_on(at::Device device, const char* kernel, const std::function<int(CUstream_st*)>& launch);

/// Kernels that a test lends to a device which has none of CUDA's; launch(kernel, enqueue) calls enqueue(nullptr).
/// Other modules' tables go by the same launch (search/device_kernels.hpp).
struct LentKernels {
  const CudaTable* table = nullptr;
  void (*launch)(const char* kernel, const std::function<int(CUstream_st*)>& enqueue) = nullptr;
};
/// For all devices of that type from now on; without a launch: to none. Not thread-safe.
void lend_kernels(c10::DeviceType type, const LentKernels& kernels);
bool has_lent_kernels(at::Device device);

/// The kernels of a device that is no CPU: of CUDA, lent ones, or none.
const CudaTable& device_kernels(at::Device device);
/// As launch_on, for those.
void launch_on_device(at::Device device, const char* kernel, const std::function<int(CUstream_st*)>& launch);

/// Varlen flash attention: as packed_attention and its backward (kernels/packed_attention.hpp), where flash_takes
/// (kernels/cuda_forms.hpp).
AttentionResult flash_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const AttentionShape& shape);
at::Tensor flash_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                    const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                    const AttentionShape& shape);

}  // namespace vixen
