// Which implementation of an operator runs: the readable ATen reference or the fused one of the device.
#pragma once

#include "config/config.hpp"

namespace vixen {

/// Chosen once, at start-up, from the kernels.* keys. kAuto is the fused one wherever it exists.
struct KernelChoices {
  KernelChoice attention = KernelChoice::kAuto;
  KernelChoice norm = KernelChoice::kAuto;
  KernelChoice adamw = KernelChoice::kAuto;
};
void set_kernel_choices(const KernelChoices& choices);
const KernelChoices& kernel_choices();

/// The instruction set that fused CPU kernels use on this machine: "avx512", "avx2" or "baseline".
const char* cpu_isa();

}  // namespace vixen
