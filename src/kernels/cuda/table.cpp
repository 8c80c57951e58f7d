// The CUDA kernels that exist, one row each; all others run as their references.
#include "kernels/cuda/launchers.hpp"
#include "kernels/cuda_kernels.hpp"

namespace vixen {

const CudaTable& cuda_kernels() {
  static constexpr CudaTable kTable{
      .dropout = cuda::dropout,
      .swiglu = cuda::swiglu,
      .swiglu_backward = cuda::swiglu_backward,
  };
  return kTable;
}

}  // namespace vixen
