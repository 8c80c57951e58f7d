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

thread_local int recording = 0;

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
Recordable::Recordable() {
  ++recording;
}
Recordable::~Recordable() {
  --recording;
}
void refuse_reference(const char* kernel, KernelFamily family) {
  if (recording > 0)
    fail_user("train.graph_positions: {} runs as its reference here, which cannot be recorded (see {}); expected 0",
              kernel, key_of(family));
}
const char* cpu_isa() {
  return cpu_kernels().isa;
}

}  // namespace vixen
