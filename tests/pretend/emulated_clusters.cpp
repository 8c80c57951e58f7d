// Balanced 2-means through CUDA's launch code on the pretend device, its kernels emulated: the CPU's leaves.
#include <gtest/gtest.h>

#include "cluster/balanced_two_means.hpp"
#include "comm/one_rank.hpp"
#include "kernels/choice.hpp"
#include "pretend/emulated_kernels.hpp"
#include "pretend/pretend_device.hpp"

namespace vixen::pretend {
namespace {

std::vector<int32_t> leaves_of(const at::Tensor& rows, at::Device on, const TwoMeansOptions& options) {
  OneRank comm(on);
  const auto leaves = balanced_two_means(rows, RowShards(rows.size(0), 1), options, comm);
  return {leaves.view().begin(), leaves.view().end()};
}

TEST(EmulatedClustersTest, LeavesAreTheCpus) {
  device();
  set_kernel_choices({});
  take_faults();
  const TwoMeansOptions options{.depth = 4, .seed = 5};
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf}) {
    const at::Tensor rows = at::randn({300, 40}, at::make_generator<at::CPUGeneratorImpl>(8)).to(dtype);
    const auto expected = leaves_of(rows, at::kCPU, options);
    const EmulatedKernels kernels;
    emulated::reset_counts();
    EXPECT_EQ(leaves_of(rows.to(device()), device(), options), expected);
    EXPECT_EQ(leaves_of(rows, device(), options), expected) << "rows that come up from host memory";
    EXPECT_GT(emulated::counts().launches, 40) << "the tree was made by CUDA kernels";
  }
  EXPECT_EQ(text_of(take_faults()), "");
}

}  // namespace
}  // namespace vixen::pretend
