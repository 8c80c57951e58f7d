// Tensors to raw pointers for the CUDA dropout kernels, on ATen's current stream.
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/dropout_launch.hpp"
#include "kernels/fused.hpp"
#include "kernels/kernels_cuda.hpp"

namespace vixen {

at::Tensor apply_dropout_cuda(const at::Tensor& x, const TokenKeys& keys, const Dropout& dropout) {
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor input = x.contiguous();
  at::Tensor y = at::empty_like(input);
  const cudaError_t status = launch_dropout_apply(
      input.const_data_ptr(), y.mutable_data_ptr(), storage_of(x.scalar_type()), x.size(0), x.size(1),
      row_keys(keys, dropout), dropout_key(dropout), c10::cuda::getCurrentCUDAStream(x.device().index()));
  VIXEN_CHECK(status == cudaSuccess, "dropout of [{}, {}]: {}", x.size(0), x.size(1), cudaGetErrorString(status));
  return y;
}

}  // namespace vixen
