// The fused CPU kernels for any processor: vectors of four floats by the compiler, no instruction set's header but the
// one of x86-64's own baseline.
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define VIXEN_ISA cpu_baseline
#define VIXEN_ISA_NAME "baseline"
#define VIXEN_LANES 4
#include "kernels/cpu/kernels.inl"
