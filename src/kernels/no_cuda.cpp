// A build without CUDA has none of its kernels. No tensor of it is on a GPU, so what would launch one is never reached.
#include "base/check.hpp"
#include "kernels/cuda_kernels.hpp"

namespace vixen {

const CudaTable& cuda_kernels() {
  static constexpr CudaTable kNone{};
  return kNone;
}

void launch_on(at::Device device, const char* kernel, const std::function<int(CUstream_st*)>& /*launch*/) {
  VIXEN_CHECK(false, "{} on {} in a build without CUDA", kernel, device.str());
}

AttentionResult flash_attention(const at::Tensor& qkv, const at::Tensor& /*cu_seqlens*/,
                                const AttentionShape& /*shape*/) {
  VIXEN_CHECK(false, "flash attention on {} in a build without CUDA", qkv.device().str());
  return {};
}

at::Tensor flash_attention_backward(const at::Tensor& grad_context, const at::Tensor& /*qkv*/,
                                    const AttentionResult& /*forward*/, const at::Tensor& /*cu_seqlens*/,
                                    const AttentionShape& /*shape*/) {
  VIXEN_CHECK(false, "flash attention on {} in a build without CUDA", grad_context.device().str());
  return {};
}

}  // namespace vixen
