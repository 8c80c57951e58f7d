// 2-means' CUDA kernels.
#include "cluster/cuda/launchers.hpp"

namespace vixen {

const ClusterTable& cuda_cluster_kernels() {
  static constexpr ClusterTable kTable{
      .unit_rows = cuda::unit_rows,
      .row_scores = cuda::row_scores,
      .row_sums = cuda::row_sums,
  };
  return kTable;
}

}  // namespace vixen
