// Times matrix products and a copy.
#include "bench/machine_bench.hpp"

#include <ATen/ATen.h>

#include "bench/timing.hpp"

namespace vixen {
namespace {

double gemm_rate(at::ScalarType dtype, at::Device device) {
  const auto options = at::TensorOptions().device(device);
  const auto a = at::randn({4096, 384}, options).to(dtype);
  const auto b = at::randn({1536, 384}, options).to(dtype);
  return 2.0 * 4096 * 384 * 1536 / median_seconds([&] { return at::matmul(a, b.t()); });
}

}  // namespace

MachineRates bench_machine(at::Device device) {
  MachineRates rates{.gemm_fp32_flops = gemm_rate(at::kFloat, device),
                     .gemm_bf16_flops = gemm_rate(at::kBFloat16, device)};
  const auto source = at::ones({64 << 20}, at::TensorOptions().dtype(at::kByte).device(device));
  auto target = at::empty_like(source);
  rates.copy_bytes_per_s =
      2.0 * static_cast<double>(source.numel()) / median_seconds([&] { return target.copy_(source); });
  return rates;
}

}  // namespace vixen
