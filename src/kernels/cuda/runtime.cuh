// What the kernels ask of CUDA itself: launches, global and shared memory, conversion of bfloat16. All else that they
// use is CUDA C++ as it is.
//   tests/emulated/device/kernels/cuda/runtime.cuh stands in for this file where kernels run on a CPU, in tests; so
//   shared memory has a macro, and reads and writes of global memory are functions.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

struct CUstream_st;

namespace vixen {

/// A number of bfloat16, or of float16, in memory.
struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

__device__ inline float to_float(Bfloat16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}
__device__ inline float to_float(Float16 value) {
  return __half2float(__ushort_as_half(value.bits));
}
/// Rounds to nearest even.
__device__ inline Bfloat16 to_bfloat16(float value) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}

/// The bits of a float32, and back.
__device__ inline uint32_t bits_of(float value) {
  return __float_as_uint(value);
}
__device__ inline float float_of(uint32_t bits) {
  return __uint_as_float(bits);
}

/// One read or write of global memory: V is a number, or a vector whose alignment is its size.
template <class V>
__device__ V global_load(const V* from) {
  return *from;
}
template <class V>
__device__ void global_store(V* to, const V& value) {
  *to = value;
}

// VIXEN_SHARED(float, sums, 32): float sums[32] of the block.
#define VIXEN_SHARED(Type, name, count) __shared__ Type name[count]
// VIXEN_DYNAMIC_SHARED(name): the launch's shared_bytes as char*, 128-byte aligned.
#define VIXEN_DYNAMIC_SHARED(name)                               \
  extern __shared__ __align__(128) char vixen_dynamic_shared_[]; \
  char* const name = vixen_dynamic_shared_

/// Enqueues kernel(arguments...) in `blocks` of `threads`; what cudaGetLastError() says then.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes, CUstream_st* stream,
           const Arguments&... arguments) {
  constexpr size_t kUnasked = 48 << 10;  // what a block may have without asking
  if (blocks <= 0) return cudaSuccess;
  if (blocks > 0x7fffffff) return cudaErrorInvalidConfiguration;
  if (shared_bytes > kUnasked) {
    const cudaError_t asked =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (asked != cudaSuccess) return asked;
  }
  kernel<<<static_cast<unsigned>(blocks), threads, shared_bytes, stream>>>(arguments...);
  return cudaGetLastError();
}

}  // namespace vixen
