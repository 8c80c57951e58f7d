// Times matrix products and a copy.
#include "bench/machine_bench.hpp"

#include <ATen/ATen.h>

#include "bench/timing.hpp"

namespace vixen {
namespace {

double gemm_rate(at::ScalarType dtype, at::Device device) {
  const auto options = at::TensorOptions().device(device);
  const int64_t rows = device.is_cpu() ? 4096 : 8192, inner = device.is_cpu() ? 384 : 4096,
                columns = device.is_cpu() ? 1536 : 4096;
  const auto a = at::randn({rows, inner}, options).to(dtype);
  const auto b = at::randn({columns, inner}, options).to(dtype);
  return 2.0 * static_cast<double>(rows * inner * columns) / median_seconds([&] { return at::matmul(a, b.t()); });
}

}  // namespace

MachineRates bench_machine(at::Device device) {
  MachineRates rates{.gemm_fp32_flops = gemm_rate(at::kFloat, device),
                     .gemm_bf16_flops = gemm_rate(at::kBFloat16, device)};
  // More than the caches hold: a GPU's second level takes 50 MB.
  const int64_t bytes = int64_t{device.is_cpu() ? 64 : 1024} << 20;
  const auto source = at::ones({bytes}, at::TensorOptions().dtype(at::kByte).device(device));
  auto target = at::empty_like(source);
  rates.copy_bytes_per_s =
      2.0 * static_cast<double>(source.numel()) / median_seconds([&] { return target.copy_(source); });
  return rates;
}

}  // namespace vixen
