// What NVIDIA's management library says of a GPU. It comes with the driver: loaded when asked for, absent elsewhere.
#pragma once

#include "device/gpu_facts.hpp"

namespace vixen {

/// Fills in what the library tells of the GPU with facts.bus_id; leaves it as it is where there is none.
void add_nvml_facts(GpuFacts& facts);

}  // namespace vixen
