// The kernel choices of this process.
#include "kernels/choice.hpp"

namespace vixen {
namespace {

KernelChoices& mutable_choices() {
  static KernelChoices choices;
  return choices;
}

}  // namespace

void set_kernel_choices(const KernelChoices& choices) {
  mutable_choices() = choices;
}
const KernelChoices& kernel_choices() {
  return mutable_choices();
}

const char* cpu_isa() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return "avx512";
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "avx2" : "baseline";
}

}  // namespace vixen
