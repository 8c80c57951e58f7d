// Chooses the kernels of 8-bit products: the variants of one processor, and the best that is allowed.
#include "search/int8_kernels.hpp"

namespace vixen {

extern const Int8Kernels kInt8Baseline;
#if defined(__x86_64__)
extern const Int8Kernels kInt8Avx2, kInt8Avx512, kInt8Avx512Vnni;
#endif

Int8Variants int8_variants() {
#if defined(__x86_64__)
  static const Int8Kernels* const kAll[] = {&kInt8Avx512Vnni, &kInt8Avx512, &kInt8Avx2, &kInt8Baseline};
#else
  static const Int8Kernels* const kAll[] = {&kInt8Baseline};
#endif
  constexpr int64_t kCount = sizeof(kAll) / sizeof(kAll[0]);
  int64_t skipped = 0;
  while (skipped < kCount - 1 && kAll[skipped]->level > cpu_level()) ++skipped;
  return {kAll + skipped, kCount - skipped};
}

const Int8Kernels& int8_kernels() {
  return *int8_variants().first[0];
}

}  // namespace vixen
