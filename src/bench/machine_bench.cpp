// Times matrix products and a copy.
#include "bench/machine_bench.hpp"

#include <ATen/ATen.h>

#include "bench/timing.hpp"

namespace vixen {
namespace {

double gemm_rate(at::ScalarType dtype, at::Device device) {
  const auto options = at::TensorOptions().device(device);
  const int64_t m = device.is_cpu() ? 4096 : 8192, k = device.is_cpu() ? 384 : 8192, n = device.is_cpu() ? 1536 : 8192;
  const auto a = at::randn({m, k}, options).to(dtype);
  const auto b = at::randn({n, k}, options).to(dtype);
  return 2.0 * static_cast<double>(m * k * n) / median_seconds([&] { return at::matmul(a, b.t()); });
}

}  // namespace

MachineRates bench_machine(at::Device device) {
  MachineRates rates{.gemm_fp32_flops = gemm_rate(at::kFloat, device),
                     .gemm_bf16_flops = gemm_rate(at::kBFloat16, device)};
  const auto source =
      at::ones({device.is_cpu() ? 64 << 20 : 1 << 30}, at::TensorOptions().dtype(at::kByte).device(device));
  auto target = at::empty_like(source);
  rates.copy_bytes_per_s =
      2.0 * static_cast<double>(source.numel()) / median_seconds([&] { return target.copy_(source); });
  return rates;
}

}  // namespace vixen
