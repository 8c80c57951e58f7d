// Vectors of VIXEN_LANES floats over GCC's vector extension: loads and stores of both storages, exp, sums, and Philox.
//   Included once by each kernels_ISA.cpp inside its own unnamed namespace, so that nothing leaks between
//   instruction sets. A block of dropout is 8 columns; kBlocks of them are drawn at a time.

typedef float VF __attribute__((vector_size(4 * VIXEN_LANES)));
typedef uint32_t VU __attribute__((vector_size(4 * VIXEN_LANES)));
typedef int32_t VI __attribute__((vector_size(4 * VIXEN_LANES)));
typedef uint64_t VQ __attribute__((vector_size(4 * VIXEN_LANES)));
typedef uint16_t VH __attribute__((vector_size(2 * VIXEN_LANES)));

constexpr int64_t kLanes = VIXEN_LANES;
constexpr int64_t kBlocks = kLanes / 2;               // Philox blocks drawn at a time
constexpr int64_t kDraws = 8 * kBlocks;               // and the columns they cover
constexpr float kLog2e = 1.44269504088896341f;        // rounded to float32
constexpr float kLog2eRest = 1.9259629911266175e-8f;  // and what the rounding took

#define VIXEN_INLINE inline __attribute__((always_inline))

VIXEN_INLINE int64_t round_up(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}
VIXEN_INLINE int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
VIXEN_INLINE VF splat(float value) {
  return value - VF{};
}

VIXEN_INLINE VI lane_numbers() {
#if VIXEN_LANES == 16
  return VI{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif VIXEN_LANES == 8
  return VI{0, 1, 2, 3, 4, 5, 6, 7};
#else
  return VI{0, 1, 2, 3};
#endif
}

// ---- bfloat16

/// By intrinsics: GCC 12 splits the conversion of a whole vector into halves.
VIXEN_INLINE VU zero_extend(VH half) {
#if VIXEN_LANES == 16
  return (VU)_mm512_cvtepu16_epi32((__m256i)half);
#elif VIXEN_LANES == 8
  return (VU)_mm256_cvtepu16_epi32((__m128i)half);
#else
  return __builtin_convertvector(half, VU);
#endif
}

VIXEN_INLINE VF widen(VH half) {
  return (VF)(zero_extend(half) << 16);
}

VIXEN_INLINE VU round_bfloat16(VF v) {
  const VU bits = (VU)v;
  const VU rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (v != v) ? (VU{} + 0x7fc0u) : rounded;
}

VIXEN_INLINE VH narrow(VF v) {
  const VU words = round_bfloat16(v);
#if VIXEN_LANES == 16
  return (VH)_mm512_cvtepi32_epi16((__m512i)words);
#elif VIXEN_LANES == 8
  const __m256i packed = _mm256_packus_epi32((__m256i)words, (__m256i)words);
  return (VH)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x88));
#else
  return __builtin_convertvector(words, VH);
#endif
}

// ---- float16, read only

struct Half {
  uint16_t bits;
};

/// Exponent and mantissa moved to their places, the exponent's bias made up by a product, which is exact and takes the
/// subnormals along.
VIXEN_INLINE VF widen_half(VH half) {
  const VU words = zero_extend(half);
  const VU magnitude = (words & 0x7fffu) << 13;
  const VU finite = (VU)((VF)magnitude * 0x1p112f);
  const VU value = ((words & 0x7c00u) == 0x7c00u) ? (magnitude | 0x7f800000u) : finite;
  return (VF)(value | ((words & 0x8000u) << 16));
}

// ---- whole vectors, and the last few columns of a row

struct Full {};
struct Part {
  int64_t count;  // lanes in use, 1 .. kLanes - 1
};

VIXEN_INLINE VF load(const float* p) {
  VF v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
VIXEN_INLINE VF load(const uint16_t* p) {
  VH v;
  __builtin_memcpy(&v, p, sizeof v);
  return widen(v);
}
VIXEN_INLINE VF load(const Half* p) {
  VH v;
  __builtin_memcpy(&v, p, sizeof v);
  return widen_half(v);
}
VIXEN_INLINE void store(float* p, VF v) {
  __builtin_memcpy(p, &v, sizeof v);
}
VIXEN_INLINE void store(uint16_t* p, VF v) {
  const VH half = narrow(v);
  __builtin_memcpy(p, &half, sizeof half);
}

template <class T>
VIXEN_INLINE VF load(const T* p, Full) {
  return load(p);
}
template <class T>
VIXEN_INLINE VF load(const T* p, Part part) {
  T lanes[kLanes] = {};
  for (int64_t i = 0; i < part.count; ++i) lanes[i] = p[i];
  return load(lanes);
}
template <class T>
VIXEN_INLINE void store(T* p, VF v, Full) {
  store(p, v);
}
template <class T>
VIXEN_INLINE void store(T* p, VF v, Part part) {
  T lanes[kLanes];
  store(lanes, v);
  for (int64_t i = 0; i < part.count; ++i) p[i] = lanes[i];
}

/// v with the lanes beyond the row set to zero.
VIXEN_INLINE VF live(VF v, Full) {
  return v;
}
VIXEN_INLINE VF live(VF v, Part part) {
  return (lane_numbers() < static_cast<int32_t>(part.count)) ? v : VF{};
}

/// What a value is after it has been stored and loaded again.
VIXEN_INLINE VF as_stored(VF v, const float*) {
  return v;
}
VIXEN_INLINE VF as_stored(VF v, const uint16_t*) {
  return (VF)(round_bfloat16(v) << 16);
}

/// f(column, Full) for every whole vector of `width` columns, f(column, Part) for the rest.
template <class F>
VIXEN_INLINE void for_vectors(int64_t width, F f) {
  int64_t column = 0;
  for (; column + kLanes <= width; column += kLanes) f(column, Full{});
  if (column < width) f(column, Part{width - column});
}

// ---- reductions and functions

VIXEN_INLINE VF larger(VF a, VF b) {
#if VIXEN_LANES == 16
  return (VF)_mm512_max_ps((__m512)a, (__m512)b);
#elif VIXEN_LANES == 8
  return (VF)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return (a > b) ? a : b;
#endif
}

/// a / b to 2e-7; on AVX-512 by the reciprocal estimate and one Newton step, three times as fast.
VIXEN_INLINE VF quotient(VF a, VF b) {
#if VIXEN_LANES == 16
  const VF estimate = (VF)_mm512_rcp14_ps((__m512)b);
  return a * (estimate * (2.0f - b * estimate));
#else
  return a / b;
#endif
}

VIXEN_INLINE float sum_lanes(VF v) {
#if VIXEN_LANES == 16
  return _mm512_reduce_add_ps((__m512)v);
#elif VIXEN_LANES == 8
  const __m128 quad = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  const __m128 pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
#else
  return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

VIXEN_INLINE float largest_lane(VF v) {
#if VIXEN_LANES == 16
  return _mm512_reduce_max_ps((__m512)v);
#else
  float result = v[0];
  for (int64_t i = 1; i < kLanes; ++i) result = v[i] > result ? v[i] : result;
  return result;
#endif
}

/// exp(x) for x <= 88, relative error below 2e-7 (without fused multiply-add 5e-8 |x| more); 1e-38 where it would
/// underflow. 2^n comes from the low bits of x log2(e) + 1.5 * 2^23, 2^f from a minimax polynomial on [-1/2, 1/2].
VIXEN_INLINE VF exp_lanes(VF x) {
  const VF magic = splat(12582912.0f);
  x = larger(splat(-87.0f), x);  // the second of the two when one is not a number
  const VF shifted = x * kLog2e + magic;
  const VF whole = shifted - magic;
  const VF rest = x * kLog2e - whole + x * kLog2eRest;
  VF y = splat(1.327646430581808e-3f);
  y = y * rest + 9.675540961325169e-3f;
  y = y * rest + 5.550713464617729e-2f;
  y = y * rest + 0.24022120237350464f;
  y = y * rest + 0.6931469440460205f;
  y = y * rest + 1.0000001192092896f;
  return (VF)((VU)y + ((VU)shifted << 23));
}

// ---- dropout

VIXEN_INLINE VQ multiply_wide(VQ a, uint64_t factor) {
#if VIXEN_LANES == 16
  return (VQ)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(static_cast<int64_t>(factor)));
#elif VIXEN_LANES == 8
  return (VQ)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(static_cast<int64_t>(factor)));
#elif defined(__SSE2__)
  return (VQ)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(static_cast<int64_t>(factor)));
#else
  return (a & 0xffffffffu) * factor;
#endif
}

VIXEN_INLINE VQ exclusive_or(VQ a, VQ b, uint64_t c) {
#if VIXEN_LANES == 16
  return (VQ)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, _mm512_set1_epi64(static_cast<int64_t>(c)), 0x96);
#else
  return a ^ b ^ c;
#endif
}

/// The keys of the ten rounds, once for many draws.
struct DropoutDraw {
  uint64_t key0[10], key1[10];
  uint64_t step, site;  // site << 16
  int32_t threshold;    // 0: no dropout
  float scale;
  explicit DropoutDraw(const DropoutKey& dropout)
      : step(dropout.step),
        site(uint64_t{dropout.site} << 16),
        threshold(static_cast<int32_t>(dropout.threshold)),
        scale(dropout.scale) {
    for (uint32_t round = 0; round < 10; ++round) {
      key0[round] = static_cast<uint32_t>(dropout.key0 + round * kPhiloxStep0);
      key1[round] = static_cast<uint32_t>(dropout.key1 + round * kPhiloxStep1);
    }
  }
};

/// Draws kBlocks Philox blocks, one in each 64-bit lane, and writes keep factors (0 or scale) of their kDraws columns.
/// Upper halves of the lanes may hold anything: products ignore them.
VIXEN_INLINE void keep_factors(VQ c0, VQ c1, VQ c2, const DropoutDraw& dropout, float* keep) {
  VQ c3 = VQ{} + dropout.step;
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const VQ product0 = multiply_wide(c0, kPhiloxMultiplier0), product1 = multiply_wide(c2, kPhiloxMultiplier1);
    c0 = exclusive_or(product1 >> 32, c1, dropout.key0[round]);
    c1 = product1;
    c2 = exclusive_or(product0 >> 32, c3, dropout.key1[round]);
    c3 = product0;
  }
  const VQ front = (c0 & 0xffffffffu) | (c1 << 32), back = (c2 & 0xffffffffu) | (c3 << 32);
#if VIXEN_LANES == 16
  const VQ low = __builtin_shufflevector(front, back, 0, 8, 1, 9, 2, 10, 3, 11);
  const VQ high = __builtin_shufflevector(front, back, 4, 12, 5, 13, 6, 14, 7, 15);
#elif VIXEN_LANES == 8
  const VQ low = __builtin_shufflevector(front, back, 0, 4, 1, 5);
  const VQ high = __builtin_shufflevector(front, back, 2, 6, 3, 7);
#else
  const VQ low = __builtin_shufflevector(front, back, 0, 2);
  const VQ high = __builtin_shufflevector(front, back, 1, 3);
#endif
  VH draws[4];
  __builtin_memcpy(draws, &low, sizeof low);
  __builtin_memcpy(draws + 2, &high, sizeof high);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const VI wide = (VI)zero_extend(draws[i]);
    store(keep + i * kLanes, (wide >= dropout.threshold) ? splat(dropout.scale) : VF{});
  }
}

VIXEN_INLINE VQ block_numbers() {
#if VIXEN_LANES == 16
  return VQ{0, 1, 2, 3, 4, 5, 6, 7};
#elif VIXEN_LANES == 8
  return VQ{0, 1, 2, 3};
#else
  return VQ{0, 1};
#endif
}

/// Keep factors of one row, drawn as its columns are asked for in ascending order from 0.
class RowDropout {
 public:
  VIXEN_INLINE RowDropout(const DropoutDraw& dropout, const RowKeys& keys, int64_t row)
      : dropout_(dropout), active_(dropout.threshold != 0) {
    if (!active_) return;
    sequence_ = static_cast<uint32_t>(keys.sequence[row]);
    position_ = dropout.site | static_cast<uint32_t>(keys.position[row]);
  }
  VIXEN_INLINE bool active() const { return active_; }
  VIXEN_INLINE VF at(int64_t column) {
    const int64_t inside = column & (kDraws - 1);
    if (inside == 0) {
      const VQ blocks = block_numbers() + static_cast<uint64_t>(column / 8);
      keep_factors(blocks, VQ{} + sequence_, VQ{} + position_, dropout_, keep_);
    }
    return load(keep_ + inside);
  }

 private:
  const DropoutDraw& dropout_;
  bool active_;
  uint64_t sequence_ = 0, position_ = 0;
  float keep_[kDraws];
};
