// The kernel choices of this process.
#include "kernels/choice.hpp"

#include "base/check.hpp"
#include "kernels/cpu/cpu_kernels.hpp"

namespace vixen {
namespace {

KernelsConfig& choices() {
  static KernelsConfig own;
  return own;
}

const KernelFamilyKey& row_of(KernelFamily family) {
  for (const KernelFamilyKey& row : kKernelFamilies)
    if (row.family == family) return row;
  VIXEN_CHECK(false, "kernel family {} has no key", static_cast<int>(family));
  return kKernelFamilies[0];
}

}  // namespace

void set_kernel_choices(const KernelsConfig& wanted) {
  choices() = wanted;
}
KernelChoice kernel_choice(KernelFamily family) {
  return choices().*row_of(family).choice;
}
const char* key_of(KernelFamily family) {
  return row_of(family).key;
}
const char* cpu_isa() {
  return cpu_kernels().isa;
}

}  // namespace vixen
