// A build without CUDA has none of its kernels.
#include "cluster/device_table.hpp"

namespace vixen {

const ClusterTable& cuda_cluster_kernels() {
  static constexpr ClusterTable kNone{};
  return kNone;
}

}  // namespace vixen
