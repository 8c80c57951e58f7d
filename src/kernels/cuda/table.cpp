// The CUDA kernels that exist, one row each; all others run as their references.
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda_kernels.hpp"

namespace vixen {

const CudaTable& cuda_kernels() {
  static constexpr CudaTable kTable{
      .attention_forward = cuda::attention_forward,
      .attention_backward = cuda::attention_backward,
      .norm_forward = cuda::norm_forward,
      .norm_backward = cuda::norm_backward,
      .rms_forward = cuda::rms_forward,
      .rms_again = cuda::rms_again,
      .rms_backward = cuda::rms_backward,
      .head_norm = cuda::head_norm,
      .head_norm_backward = cuda::head_norm_backward,
      .dropout = cuda::dropout,
      .rope = cuda::rope,
      .swiglu = cuda::swiglu,
      .swiglu_backward = cuda::swiglu_backward,
      .gelu = cuda::gelu,
      .gelu_backward = cuda::gelu_backward,
      .column_sums = cuda::column_sums,
      .embed_positions = cuda::embed_positions,
      .embed_tokens = cuda::embed_tokens,
      .segment_sums = cuda::segment_sums,
      .mean_pool = cuda::mean_pool,
      .mean_pool_backward = cuda::mean_pool_backward,
  };
  return kTable;
}

}  // namespace vixen
