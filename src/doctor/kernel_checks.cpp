// Every fused kernel of this machine against its reference, on data that is new every time.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <random>

#include "doctor/checks.hpp"
#include "doctor/kernel_comparisons.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cuda_kernels.hpp"

namespace vixen {
namespace {

void judge_kernels(const at::Device& device, bool (*there)(const RowFacts& row), const std::string& name, uint64_t seed,
                   Findings& findings) {
  const auto facts = kernel_row_facts();
  const auto comparisons = kernel_comparisons();
  int64_t compared = 0;
  bool sound = true;
  for (size_t i = 0; i < facts.size(); ++i) {
    if (!there(facts[i])) continue;
    ++compared;
    double worst = 0;
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      double most = 0;
      for (const auto& result : compare_kernel(comparisons[i], facts[i].family, KernelInputs(dtype, device, seed)))
        most = std::max(most, result.same_dtype ? result.difference : 1e300);
      worst = std::max(worst, most / kernel_tolerance(dtype));
    }
    if (worst < 1) continue;
    sound = false;
    findings.push_back(
        bad(fmt::format("{} {}", name, facts[i].name),
            fmt::format("{:.1f} times further from its reference than rounding explains (seed {})", worst, seed),
            fmt::format("run with {} = reference, and tell us, with this table", key_of(facts[i].family))));
  }
  if (sound && compared > 0)
    findings.push_back(
        good(name, fmt::format("{} kernels agree with their references, float32 and bfloat16", compared)));
  if (compared == 0) findings.push_back(skipped(name, "no fused kernel there"));
}

}  // namespace

Findings check_kernels(Patient& patient) {
  Findings findings;
  const uint64_t seed = std::random_device{}() % 1'000'000;
  judge_kernels(
      at::kCPU, [](const RowFacts& row) { return row.on_cpu(cpu_kernels().table); }, fmt::format("CPU ({})", cpu_isa()),
      seed, findings);
  if (patient.gpus)
    judge_kernels(
        patient.gpus->device(), [](const RowFacts& row) { return row.on_cuda(cuda_kernels()); }, "CUDA", seed,
        findings);
  else
    findings.push_back(skipped("CUDA", "no GPU"));
  return findings;
}

}  // namespace vixen
