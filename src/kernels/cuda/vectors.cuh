// Rows in vectors of 16 bytes: loads to float32, stores with rounding, and the choice of a form for an operand.
//   A form is a storage and N, the columns of one vector: 4 of float32, 8 of bfloat16, 1 where rows are not whole
//   vectors or do not begin at multiples of 16 bytes.
#pragma once

#include <initializer_list>

#include "kernels/arguments.hpp"
#include "kernels/cuda/runtime.cuh"

namespace vixen {

constexpr int kVectorBytes = 16;

template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

template <int N>
struct Floats {
  float at[N];
};

__device__ inline float as_float(float value) {
  return value;
}
__device__ inline float as_float(Bfloat16 value) {
  return to_float(value);
}
__device__ inline float as_float(Float16 value) {
  return to_float(value);
}
__device__ inline void assign(float& out, float value) {
  out = value;
}
__device__ inline void assign(Bfloat16& out, float value) {
  out = to_bfloat16(value);
}

/// `value` as T holds it.
template <class T>
__device__ float rounded(float value) {
  T stored;
  assign(stored, value);
  return as_float(stored);
}

template <int N, class T>
__device__ Floats<N> widen(const Vector<T, N>& vector) {
  Floats<N> out;
#pragma unroll
  for (int e = 0; e < N; ++e) out.at[e] = as_float(vector.at[e]);
  return out;
}
template <class T, int N>
__device__ Vector<T, N> narrow(const Floats<N>& values) {
  Vector<T, N> out;
#pragma unroll
  for (int e = 0; e < N; ++e) assign(out.at[e], values.at[e]);
  return out;
}

/// N numbers from global memory as they are, and as float32; N floats are read 16 bytes at a time.
template <int N, class T>
__device__ Vector<T, N> load_vector(const T* from) {
  return global_load(reinterpret_cast<const Vector<T, N>*>(from));
}
template <int N, class T>
__device__ Floats<N> load(const T* from) {
  constexpr int kMost = kVectorBytes / static_cast<int>(sizeof(T));
  if constexpr (N <= kMost) {
    return widen(load_vector<N>(from));
  } else {
    Floats<N> out;
#pragma unroll
    for (int part = 0; part < N; part += kMost) {
      const Floats<kMost> values = widen(load_vector<kMost>(from + part));
#pragma unroll
      for (int e = 0; e < kMost; ++e) out.at[part + e] = values.at[e];
    }
    return out;
  }
}
template <int N, class T>
__device__ void store(T* to, const Floats<N>& values) {
  constexpr int kMost = kVectorBytes / static_cast<int>(sizeof(T));
  if constexpr (N <= kMost) {
    global_store(reinterpret_cast<Vector<T, N>*>(to), narrow<T>(values));
  } else {
#pragma unroll
    for (int part = 0; part < N; part += kMost) {
      Floats<kMost> some;
#pragma unroll
      for (int e = 0; e < kMost; ++e) some.at[e] = values.at[part + e];
      global_store(reinterpret_cast<Vector<T, kMost>*>(to + part), narrow<T>(some));
    }
  }
}

/// Where vector `index` of rows of `vectors` each lies.
struct Place {
  int64_t row, vector;
};
__device__ inline Place place_of(int64_t index, int64_t vectors) {
  if ((index | vectors) >> 32 == 0) {  // 64-bit division takes five times the instructions
    const auto low = static_cast<uint32_t>(index), by = static_cast<uint32_t>(vectors);
    return {low / by, low % by};
  }
  return {index / vectors, index % vectors};
}

template <class Stored, int N>
struct Form {
  using T = Stored;
  static constexpr int kLanes = N;
};

/// Whether all pointers, null ones aside, are multiples of 16.
inline bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers)
    if (reinterpret_cast<uintptr_t>(pointer) % kVectorBytes != 0) return false;
  return true;
}

/// run(Form<T, N>{}) for rows of `width` columns; `vectors`: whether the pointers allow vectors.
template <class Run>
int with_form(Storage storage, int64_t width, bool vectors, Run run) {
  if (storage == Storage::kFloat32) return vectors && width % 4 == 0 ? run(Form<float, 4>{}) : run(Form<float, 1>{});
  return vectors && width % 8 == 0 ? run(Form<Bfloat16, 8>{}) : run(Form<Bfloat16, 1>{});
}

/// Blocks of kElementThreads threads for `count` pieces of work that need nothing of each other.
constexpr int kElementThreads = 256;
inline int64_t element_blocks(int64_t count) {
  return (count + kElementThreads - 1) / kElementThreads;
}
__device__ inline int64_t element_index() {
  return static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x;
}

}  // namespace vixen
