// Which implementation of an operator runs: the readable ATen reference or the fused one of the device. One choice a
// family of kernels, with the same meaning on every device.
#pragma once

#include <array>

#include "config/config.hpp"
#include "kernels/table.hpp"

namespace vixen {

/// A family and the kernels.* key that chooses for it.
struct KernelFamilyKey {
  KernelFamily family;
  const char* key;  // "kernels.rope"
  KernelChoice KernelsConfig::*choice;
};
inline constexpr std::array<KernelFamilyKey, 11> kKernelFamilies{{
    {.family = KernelFamily::kAttention, .key = "kernels.attention", .choice = &KernelsConfig::attention},
    {.family = KernelFamily::kNorm, .key = "kernels.norm", .choice = &KernelsConfig::norm},
    {.family = KernelFamily::kDropout, .key = "kernels.dropout", .choice = &KernelsConfig::dropout},
    {.family = KernelFamily::kRope, .key = "kernels.rope", .choice = &KernelsConfig::rope},
    {.family = KernelFamily::kActivation, .key = "kernels.activation", .choice = &KernelsConfig::activation},
    {.family = KernelFamily::kEmbedding, .key = "kernels.embedding", .choice = &KernelsConfig::embedding},
    {.family = KernelFamily::kPooling, .key = "kernels.pooling", .choice = &KernelsConfig::pooling},
    {.family = KernelFamily::kAdamw, .key = "kernels.adamw", .choice = &KernelsConfig::adamw},
    {.family = KernelFamily::kSearch, .key = "kernels.search", .choice = &KernelsConfig::search},
    {.family = KernelFamily::kClusters, .key = "kernels.clusters", .choice = &KernelsConfig::clusters},
    {.family = KernelFamily::kObjective, .key = "kernels.objective", .choice = &KernelsConfig::objective},
}};

/// The kernels.* keys, taken once at start-up. Not thread-safe.
void set_kernel_choices(const KernelsConfig& choices);

/// auto: the fused kernel wherever the device has one for what it is given, else the reference. reference: always the
/// reference. fused: the fused kernel, or a UserError where the device has none.
KernelChoice kernel_choice(KernelFamily family);
/// "kernels.rope".
const char* key_of(KernelFamily family);

/// While one lives, the thread that made it records what it enqueues (device/work_graph.hpp): a kernel that would run
/// as its reference, whose work may depend on the batch, is a UserError. Kernels ask refuse_reference() where they
/// choose.
class Recordable {
 public:
  Recordable();
  ~Recordable();
  Recordable(const Recordable&) = delete;
  Recordable& operator=(const Recordable&) = delete;
};
/// A UserError while this thread records. kernel: "attention_forward".
void refuse_reference(const char* kernel, KernelFamily family);

/// The instruction set that fused CPU kernels use on this machine: "avx512", "avx2" or "baseline".
const char* cpu_isa();

}  // namespace vixen
