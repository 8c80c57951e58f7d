// The CUDA half of device.hpp: device_cuda.cpp, or no_cuda.cpp in builds without CUDA, which find no GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace vixen {
class WorkGraphPool;
}

namespace vixen::detail {

/// Makes GPU `index` current and sets deterministic numerics. UserError when there is no such GPU.
void select_gpu(int index);
/// 0 without a driver or a GPU; never throws.
int count_gpus();
/// "0000:3B:00.0"; empty when there is no such GPU. Never throws.
std::string gpu_bus_id(int index);
/// Its UUID in hexadecimal; empty when there is no such GPU. Never throws.
std::string gpu_uuid(int index);

/// Of its L2 cache; 0 when there is no such GPU. Never throws.
int64_t gpu_l2_bytes(int index);

/// device/work_graph.hpp; null in builds without CUDA.
std::unique_ptr<WorkGraphPool> make_cuda_graph_pool();

}  // namespace vixen::detail
