// The fused CPU kernels for AVX-512 (F, BW, DQ, VL).
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the deliberately undefined operands inside its AVX-512 intrinsics for uninitialised ones of ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#define VIXEN_ISA cpu_avx512
#define VIXEN_ISA_NAME "avx512"
#define VIXEN_LANES 16
#include "kernels/cpu/kernels.inl"
