// How fast the ranks are: everyone waits for the slowest.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "bench/machine_bench.hpp"
#include "doctor/checks.hpp"

namespace vixen {
namespace {

constexpr double kSlow = 0.75, kTooSlow = 0.5;  // of the median

std::vector<double> of_all_ranks(double value, Communicator& host) {
  std::vector<double> all;
  for (const int64_t thousandth : host.all_gather_host(static_cast<int64_t>(value * 1e3)))
    all.push_back(static_cast<double>(thousandth) / 1e3);
  return all;
}

void judge_rate(const std::string& what, double own, const char* unit, Communicator& host, Findings& findings) {
  auto all = of_all_ranks(own, host);
  std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
  const double median = all[all.size() / 2];
  if (own < kSlow * median)
    findings.push_back({what, own < kTooSlow * median ? Health::kBad : Health::kNote,
                        fmt::format("{:.1f} {}, the others {:.1f}", own, unit, median),
                        "every step waits for this rank: is another program on its CPUs or GPU, is its node slow?"});
  else
    findings.push_back(good(what, fmt::format("{:.1f} {}{}", median, unit, all.size() > 1 ? " a rank" : "")));
}

}  // namespace

Findings check_rates(Patient& patient) {
  Findings findings;
  const auto judge = [&](at::Device device, const std::string& name) {
    patient.host.barrier();  // ranks of a node share its memory and power: all at once, as in training
    const MachineRates rates = bench_machine(device);
    judge_rate(name + "products float32", rates.gemm_fp32_flops / 1e9, "GFLOP/s", patient.host, findings);
    judge_rate(name + "products bfloat16", rates.gemm_bf16_flops / 1e9, "GFLOP/s", patient.host, findings);
    judge_rate(name + "memory", rates.copy_bytes_per_s / 1e9, "GB/s", patient.host, findings);
  };
  judge(at::kCPU, "");
  if (patient.gpus) judge(patient.gpus->device(), "GPU ");
  return findings;
}

}  // namespace vixen
