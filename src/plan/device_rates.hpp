// What a device does in a second, and what is in it: by data sheet, or as `vixen bench` measured it.
#pragma once

#include <string>

#include "config/config.hpp"

namespace vixen {

struct DeviceRates {
  std::string name;
  double memory_bytes = 0;
  double peak_flops = 0;      // matrix products of the backbone, dense, in model.compute
  double products_share = 1;  // share of it that a layer's products reach
  double core_flops = 0;      // float32 arithmetic of kernels outside of a GPU's matrix units
  double float_flops = 0;     // float32 matrix products: objective, search on CPUs
  double search_flops = 0;    // of the search's candidates: bfloat16 on GPUs
  double memory_rate = 0;     // bytes/s that kernels between the products reach
  double reduce_rate = 0;     // bytes/s, bus bandwidth of an all-reduce
  std::string source;

  double rate() const { return peak_flops * products_share; }
};

/// core_flops of a device whose float32 products reach fp32_flops: of CPUs the same, of GPUs an assumed share.
double core_flops_of(double fp32_flops, bool cpu);

/// The table's row of plan.gpu, or what plan.rates holds over it, with plan.tflops and plan.bandwidth_gbs over both.
/// "cpu" is measured here and now, with the threads of this process (about a second), unless plan.rates says it.
/// UserError where plan.rates is not what `vixen bench` writes.
DeviceRates device_rates(const Config& config);

}  // namespace vixen
