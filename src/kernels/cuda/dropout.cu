// Dropout on CUDA: one Philox block, which is eight columns of one row, a thread.
//   x, y [rows, width]; counter and key as in kernels/dropout.hpp.
#include <cuda_bf16.h>

#include "base/philox.hpp"
#include "kernels/cuda/launchers.hpp"

namespace vixen {
namespace {

constexpr int kThreads = 256;

/// Calls write(element index, kept) for the columns of this thread's block.
template <class Write>
__device__ void for_block(int64_t rows, int64_t width, RowKeys keys, DropoutKey dropout, Write write) {
  const int64_t blocks = (width + 7) / 8;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= rows * blocks) return;
  const int64_t row = index / blocks, block = index % blocks;
  const PhiloxBlock bits =
      philox_block({{static_cast<uint32_t>(block), static_cast<uint32_t>(keys.sequence[row]),
                     dropout.site << 16 | static_cast<uint32_t>(keys.position[row]), dropout.step}},
                   dropout.key0, dropout.key1);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const int64_t column = block * 8 + e;
    const uint32_t draw = e % 2 == 0 ? bits.word[e / 2] & 0xffffu : bits.word[e / 2] >> 16;
    if (column < width) write(row * width + column, draw >= dropout.threshold);
  }
}

__device__ float to_float(float value) {
  return value;
}
__device__ float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
__device__ void assign(float& out, float value) {
  out = value;
}
__device__ void assign(__nv_bfloat16& out, float value) {
  out = __float2bfloat16_rn(value);
}

template <class T>
__global__ void apply_kernel(const T* x, T* y, int64_t rows, int64_t width, RowKeys keys, DropoutKey dropout) {
  for_block(rows, width, keys, dropout,
            [&](int64_t i, bool kept) { assign(y[i], to_float(x[i]) * (kept ? dropout.scale : 0.0f)); });
}

template <class T>
void launch(const DropoutArgs& a, int64_t rows, cudaStream_t stream) {
  const int64_t blocks = (rows * ((a.width + 7) / 8) + kThreads - 1) / kThreads;
  apply_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(static_cast<const T*>(a.x), static_cast<T*>(a.y),
                                                                       rows, a.width, a.keys, a.dropout);
}

}  // namespace

int cuda::dropout(const DropoutArgs& a, int64_t rows, cudaStream_t stream) {
  if (rows * a.width == 0) return cudaSuccess;
  a.storage == Storage::kFloat32 ? launch<float>(a, rows, stream) : launch<__nv_bfloat16>(a, rows, stream);
  return cudaGetLastError();
}

}  // namespace vixen
