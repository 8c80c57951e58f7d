// The fused CPU kernels for AVX2 with FMA.
#include <immintrin.h>

#define VIXEN_ISA cpu_avx2
#define VIXEN_ISA_NAME "avx2"
#define VIXEN_LANES 8
#include "kernels/cpu/kernels.inl"
