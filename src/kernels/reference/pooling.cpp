// Mean pooling in plain ATen; segment_reduce adds in a fixed order on CPU and CUDA.
//   x [T, D], cu_seqlens int32 [n+1].
#include "kernels/reference.hpp"

namespace vixen::reference {
namespace {

at::Tensor lengths_of(const at::Tensor& cu_seqlens) {
  return cu_seqlens.slice(0, 1).to(at::kLong) - cu_seqlens.slice(0, 0, -1).to(at::kLong);
}

}  // namespace

at::Tensor mean_pool(const at::Tensor& x, const at::Tensor& cu_seqlens) {
  const at::Tensor lengths = lengths_of(cu_seqlens);
  return at::segment_reduce(x.to(at::kFloat).contiguous(), "sum", lengths, {}, {}, 0, /*unsafe=*/true) /
         lengths.unsqueeze(1).to(at::kFloat);
}

at::Tensor mean_pool_backward(const at::Tensor& grad, const at::Tensor& cu_seqlens, int64_t n_positions,
                              at::ScalarType dtype) {
  const at::Tensor lengths = lengths_of(cu_seqlens);
  const at::Tensor shares = (grad / lengths.unsqueeze(1).to(at::kFloat)).to(dtype);
  return at::repeat_interleave(shares, lengths, 0, n_positions);
}

}  // namespace vixen::reference
