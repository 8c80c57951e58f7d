// The table of devices, and the file that bench_command.cpp writes.
#include "plan/device_rates.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "base/json_file.hpp"
#include "base/lap.hpp"
#include "base/progress.hpp"
#include "device/device.hpp"

namespace vixen {
namespace {

// Shares of a GPU's data sheet, assumed until a card is measured: large products of bfloat16 are published at 0.6 to
// 0.8 of the dense peak, copies at 0.9 of the memory's rate.
constexpr double kProductsShare = 0.7;
constexpr double kMemoryShare = 0.9;
// Of float32's: products in shared memory by plain multiply-adds (kernels/cuda/attention.cu).
constexpr double kCoresShare = 0.3;

// Seconds of the fastest of a few calls.
template <typename Work>
double fastest(Work work) {
  work();
  return fastest_seconds(5, work);
}

double product_rate(at::ScalarType dtype) {
  const auto a = at::ones({2048, 512}, dtype), b = at::ones({512, 1024}, dtype);
  auto c = at::empty({2048, 1024}, dtype);
  return 2.0 * 2048 * 512 * 1024 / fastest([&] { at::mm_out(c, a, b); });
}

// A layer's products reach this share of a plain product's rate on CPUs (vixen bench prints it).
constexpr double kCpuProductsShare = 0.7;
// Between processes of a machine, through shared memory.
constexpr double kCpuReduceRate = 1.5e9;

DeviceRates measured_cpu(Compute compute) {
  const Stage stage("measure this machine");
  DeviceRates cpu{.name = "cpu",
                  .products_share = kCpuProductsShare,
                  .reduce_rate = kCpuReduceRate,
                  .source = "measured now; share of products and all-reduce assumed"};
  cpu.memory_bytes = static_cast<double>(device_bytes(at::kCPU));
  cpu.float_flops = product_rate(at::kFloat);
  cpu.search_flops = cpu.float_flops;
  cpu.core_flops = core_flops_of(cpu.float_flops, /*cpu=*/true);
  cpu.peak_flops = compute == Compute::kBfloat16 ? product_rate(at::kBFloat16) : cpu.float_flops;
  const auto source = at::ones({32 << 20}, at::kByte);
  auto target = at::empty_like(source);
  cpu.memory_rate = 2.0 * static_cast<double>(source.numel()) / fastest([&] { target.copy_(source); });
  return cpu;
}

// Memory, dense bf16, fp32 and memory rate: the vendor's data sheets of the SXM modules ("NVIDIA H100 Tensor Core GPU",
// "NVIDIA H200 Tensor Core GPU", "NVIDIA A100 Tensor Core GPU"). All-reduce: bus bandwidth that rings over NVLink reach
// within a node of eight, 370 of 450 GB/s a direction on H100 and H200, 230 of 300 on A100.
DeviceRates rates_of(PlannedDevice device, Compute compute) {
  const auto card = [&](double memory, double bf16, double fp32, double memory_rate, double ring) {
    return DeviceRates{.name = name_of(device),
                       .memory_bytes = memory,
                       .peak_flops = compute == Compute::kBfloat16 ? bf16 : fp32,
                       .products_share = kProductsShare,
                       .core_flops = core_flops_of(fp32, /*cpu=*/false),
                       .float_flops = fp32,
                       .search_flops = kProductsShare * bf16,
                       .memory_rate = kMemoryShare * memory_rate,
                       .reduce_rate = ring,
                       .source = "data sheet, NVLink ring"};
  };
  switch (device) {
    case PlannedDevice::kH100:
      return card(80e9, 989e12, 67e12, 3.35e12, 370e9);
    case PlannedDevice::kH200:
      return card(141e9, 989e12, 67e12, 4.8e12, 370e9);
    case PlannedDevice::kA100With80:
      return card(80e9, 312e12, 19.5e12, 2.04e12, 230e9);
    case PlannedDevice::kA100With40:
      return card(40e9, 312e12, 19.5e12, 1.555e12, 230e9);
    case PlannedDevice::kCpu:
      return measured_cpu(compute);
  }
  VIXEN_CHECK(false, "device {}", static_cast<int>(device));
}

// Of a file of `vixen bench --out`: its "rates". What it does not say stays an assumption: the share of the peak that
// a layer's products reach, where no training step was timed in this precision, and links, where one rank ran.
DeviceRates rates_in(const std::string& path, const Config& config) {
  const std::string expected = "what `vixen bench --out FILE` writes";
  const auto file = read_json_object(path, expected);
  const auto number = [&](const char* key) {
    const auto rates = file.find("rates");
    if (rates == file.end() || !rates->is_object())
      fail_user("plan.rates = {}: found no \"rates\" in it, expected {}", path, expected);
    const auto value = rates->find(key);
    if (value == rates->end() || !value->is_number() || !(value->get<double>() > 0))
      fail_user("plan.rates = {}: rates.{} is {}, expected a number above 0, as in {}", path, key,
                value == rates->end() ? "missing" : shown_json(*value), expected);
    return value->get<double>();
  };
  const bool bf16 = config.model.compute == Compute::kBfloat16, cpu = config.plan.gpu == PlannedDevice::kCpu;
  DeviceRates device;
  device.memory_bytes = number("memory_bytes");
  device.float_flops = number("fp32_flops_per_s");
  const double bf16_flops = number("bf16_flops_per_s");
  device.peak_flops = bf16 ? bf16_flops : device.float_flops;
  device.search_flops = cpu ? device.float_flops : bf16_flops;
  device.core_flops = core_flops_of(device.float_flops, cpu);
  device.memory_rate = number("memory_bytes_per_s");
  const auto& rates = file.at("rates");
  device.name = rates.contains("name") && rates.at("name").is_string() ? rates.at("name").get<std::string>() : "device";
  device.source = "measured, " + path;
  const char* share = bf16 ? "products_share_bf16" : "products_share_fp32";
  if (rates.contains(share)) {
    device.products_share = number(share);
  } else {
    device.products_share = cpu ? kCpuProductsShare : kProductsShare;
    device.source += "; share of products assumed";
  }
  if (rates.contains("all_reduce_bytes_per_s")) {
    device.reduce_rate = number("all_reduce_bytes_per_s");
  } else {
    device.reduce_rate = cpu ? kCpuReduceRate : rates_of(config.plan.gpu, config.model.compute).reduce_rate;
    device.source += "; all-reduce assumed";
  }
  return device;
}

}  // namespace

double core_flops_of(double fp32_flops, bool cpu) {
  return (cpu ? 1 : kCoresShare) * fp32_flops;
}

DeviceRates device_rates(const Config& config) {
  const auto& plan = config.plan;
  const bool measured = !plan.rates.empty();
  DeviceRates device = measured ? rates_in(plan.rates, config) : rates_of(plan.gpu, config.model.compute);
  if (plan.tflops > 0) {
    device.peak_flops = plan.tflops * 1e12;
    device.products_share = 1;
  }
  if (plan.bandwidth_gbs > 0) device.reduce_rate = plan.bandwidth_gbs * 1e9;
  return device;
}

}  // namespace vixen
