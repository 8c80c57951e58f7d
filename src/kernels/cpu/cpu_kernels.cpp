// Chooses the table of fused CPU kernels once, by what this machine can run.
#include "kernels/cpu/cpu_kernels.hpp"

#include <cstring>

namespace vixen {
namespace {

const CpuKernels*& chosen() {
  static const CpuKernels* kernels = cpu_variants().first[0];
  return kernels;
}

}  // namespace

const CpuKernels& cpu_kernels() {
  return *chosen();
}

bool force_cpu_isa(const char* isa) {
  const CpuVariants variants = cpu_variants();
  for (int64_t i = 0; i < variants.count; ++i) {
    if (isa != nullptr && std::strcmp(variants.first[i]->isa, isa) != 0) continue;
    chosen() = variants.first[i];
    return true;
  }
  return false;
}

void force_cpu_kernels(const CpuKernels& kernels) {
  chosen() = &kernels;
}

}  // namespace vixen
