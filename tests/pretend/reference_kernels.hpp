// The reference form of every kernel, on every device: the same operators on the pretend device and on the CPU.
#pragma once

#include "kernels/choice.hpp"

namespace vixen::pretend {

/// Of this process, from now on.
inline void use_reference_kernels() {
  KernelsConfig all;
  for (const KernelFamilyKey& family : kKernelFamilies) all.*family.choice = KernelChoice::kReference;
  set_kernel_choices(all);
}

}  // namespace vixen::pretend
