#include "device/work_graph.hpp"

#include "device/device_cuda.hpp"

namespace vixen {
namespace {

struct Lent {
  c10::DeviceType type = at::kCPU;
  std::unique_ptr<WorkGraphPool> (*make)() = nullptr;
};
Lent& lent() {
  static Lent own;
  return own;
}

}  // namespace

std::unique_ptr<WorkGraphPool> make_work_graph_pool(at::Device device) {
  if (lent().make != nullptr && lent().type == device.type()) return lent().make();
  return device.is_cuda() ? detail::make_cuda_graph_pool() : nullptr;
}

void lend_work_graphs(c10::DeviceType type, std::unique_ptr<WorkGraphPool> (*make)()) {
  lent() = {type, make};
}

}  // namespace vixen
