// The fused CPU kernels for AVX-512 (F, BW, DQ, VL).
#define VIXEN_ISA cpu_avx512
#define VIXEN_ISA_NAME "avx512"
#define VIXEN_LANES 16
#include "kernels/cpu_kernels.inl"
