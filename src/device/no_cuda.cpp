// A build without CUDA: there is no GPU.
#include "base/check.hpp"
#include "device/device_cuda.hpp"
#include "device/gpu_facts.hpp"
#include "device/phase.hpp"
#include "device/work_graph.hpp"

namespace vixen::detail {

void select_gpu(int /*index*/) {
  fail_user("device = cuda: this build has no CUDA: build with -DVIXEN_CUDA=ON, or use --device cpu");
}

int count_gpus() {
  return 0;
}

std::string gpu_bus_id(int /*index*/) {
  return {};
}

std::string gpu_uuid(int /*index*/) {
  return {};
}

int64_t gpu_l2_bytes(int /*index*/) {
  return 0;
}

std::unique_ptr<WorkGraphPool> make_cuda_graph_pool() {
  return nullptr;
}

}  // namespace vixen::detail

namespace vixen {

void Phase::begin(const char* /*name*/) {}

void Phase::end() {}

std::vector<GpuFacts> gpu_facts(int /*own*/) {
  return {};
}

bool has_cuda_build() {
  return false;
}

CudaVersions cuda_versions() {
  return {};
}

}  // namespace vixen
