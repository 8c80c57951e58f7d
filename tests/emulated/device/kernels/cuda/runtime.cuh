// What CUDA kernels ask of CUDA, where they run on a CPU: stands in for src/kernels/cuda/runtime.cuh, and for the words
// of CUDA C++ that the kernels use.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulated/emulator.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(threads)

#define threadIdx (vixen::emulated::thread_index())
#define blockIdx (vixen::emulated::block_index())
#define blockDim (vixen::emulated::block_size())
#define gridDim (vixen::emulated::grid_size())

#define __syncthreads() vixen::emulated::block_barrier(__FILE__, __LINE__)
#define __syncwarp(mask) vixen::emulated::warp_barrier(mask, __FILE__, __LINE__)
#define __shfl_sync(mask, value, source) \
  vixen::emulated::shuffle(mask, value, (source) % vixen::emulated::kWarpSize, __FILE__, __LINE__)
#define __shfl_xor_sync(mask, value, bits) \
  vixen::emulated::shuffle(mask, value, vixen::emulated::lane() ^ (bits), __FILE__, __LINE__)
// A lane beyond the warp's last gives one's own value.
#define __shfl_down_sync(mask, value, by)                                                                              \
  vixen::emulated::shuffle(                                                                                            \
      mask, value, vixen::emulated::lane() + ((by) < vixen::emulated::kWarpSize - vixen::emulated::lane() ? (by) : 0), \
      __FILE__, __LINE__)
#define __ballot_sync(mask, value) vixen::emulated::ballot(mask, (value) != 0, __FILE__, __LINE__)
#define __popc(bits) __builtin_popcount(bits)

struct CUstream_st;

namespace vixen {
namespace emulated {

template <class T>
T shuffle(uint32_t mask, T value, int source, const char* file, int line) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  word = exchange(mask, word, source, file, line);
  std::memcpy(&value, &word, sizeof value);
  return value;
}

}  // namespace emulated

// Of integers only: sums of floats by atomics depend on who comes first.
template <class T>
T atomicAdd(T* address, T value) {
  static_assert(std::is_integral_v<T>, "sums of floats by atomics are not the same in each run");
  T& there = *static_cast<T*>(emulated::place_of_atomic(address, sizeof(T)));
  const T before = there;
  there = before + value;
  return before;
}
template <class T>
T atomicMax(T* address, T value) {
  static_assert(std::is_integral_v<T>);
  T& there = *static_cast<T*>(emulated::place_of_atomic(address, sizeof(T)));
  const T before = there;
  there = before < value ? value : before;
  return before;
}

inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}

struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

inline float to_float(Bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}
inline float to_float(Float16 value) {
  const int exponent = value.bits >> 10 & 31;
  const float fraction = static_cast<float>(value.bits & 1023) / 1024;
  const float size = exponent == 31  ? (fraction == 0 ? HUGE_VALF : std::nanf(""))
                     : exponent == 0 ? std::ldexp(fraction, -14)
                                     : std::ldexp(1 + fraction, exponent - 15);
  return value.bits >> 15 ? -size : size;
}
inline Bfloat16 to_bfloat16(float value) {
  if (std::isnan(value)) return {0x7fff};  // as __float2bfloat16_rn
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class V>
V global_load(const V* from) {
  return *static_cast<const V*>(emulated::check_global(from, sizeof(V), alignof(V), false));
}
template <class V>
void global_store(V* to, const V& value) {
  *static_cast<V*>(emulated::check_global(to, sizeof(V), alignof(V), true)) = value;
}

#define VIXEN_SHARED(Type, name, count)  \
  static char vixen_shared_site_##name;  \
  Type* const name = static_cast<Type*>( \
      vixen::emulated::shared_array(&vixen_shared_site_##name, sizeof(Type) * static_cast<size_t>(count)))
#define VIXEN_DYNAMIC_SHARED(name) char* const name = static_cast<char*>(vixen::emulated::dynamic_shared())

template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes, CUstream_st* /*stream*/,
           const Arguments&... arguments) {
  emulated::run(blocks, threads, shared_bytes, [&] { kernel(arguments...); });
  return 0;
}

}  // namespace vixen
