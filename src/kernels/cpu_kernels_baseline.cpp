// The fused CPU kernels for any x86-64.
#define VIXEN_ISA cpu_baseline
#define VIXEN_ISA_NAME "baseline"
#define VIXEN_LANES 4
#include "kernels/cpu_kernels.inl"
