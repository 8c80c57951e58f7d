// Balanced 2-means on a GPU against the CPU's: leaves to the bit, by the CUDA kernels and by their references.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "cluster/balanced_two_means.hpp"
#include "comm/one_rank.hpp"
#include "commands/numerics.hpp"
#include "device/device.hpp"

namespace vixen {
namespace {

std::vector<int32_t> leaves_of(const at::Tensor& rows, at::Device on, const TwoMeansOptions& options) {
  OneRank comm(on);
  const auto leaves = balanced_two_means(rows, RowShards(rows.size(0), 1), options, comm);
  return {leaves.view().begin(), leaves.view().end()};
}

TEST(GpuClustersTest, LeavesAreTheCpusToTheBit) {
  if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
  const at::Device gpu(at::kCUDA, 0);
  const TwoMeansOptions options{.depth = 9, .seed = 5};
  for (const int64_t width : {37, 384}) {
    const at::Tensor rows = at::randn({20'000, width}, at::make_generator<at::CPUGeneratorImpl>(8));
    const auto expected = leaves_of(rows, at::kCPU, options);
    for (const auto clusters : {KernelChoice::kFused, KernelChoice::kReference}) {
      Config config;
      config.device = DeviceKind::kCuda;
      config.kernels.clusters = clusters;
      set_numerics(config, /*local_rank=*/0, at::get_num_threads());
      EXPECT_EQ(leaves_of(rows.to(gpu), gpu, options), expected) << width << " columns";
    }
  }
}

}  // namespace
}  // namespace vixen
