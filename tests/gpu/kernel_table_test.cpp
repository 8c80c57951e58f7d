// The CUDA kernels of the table against their references, and what kernels.attention = fused runs.
#include "device/device.hpp"
#include "fixtures/kernel_comparisons.hpp"
#include "kernels/cuda_kernels.hpp"

namespace vixen {
namespace {

using namespace test;

class GpuKernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
    select_device(DeviceKind::kCuda, 0);
  }
};

TEST_F(GpuKernelTest, EveryCudaKernelMeetsItsReference) {
  const auto facts = kernel_row_facts();
  const auto comparisons = kernel_comparisons();
  int compared = 0;
  for (size_t i = 0; i < facts.size(); ++i) {
    if (!facts[i].on_cuda(cuda_kernels())) continue;
    ++compared;
    for (const auto dtype : kStorages)
      expect_fused_meets_reference(comparisons[i], facts[i].family, KernelInputs(dtype, at::Device(at::kCUDA, 0)));
  }
  EXPECT_GE(compared, 21);
}

TEST_F(GpuKernelTest, FusedAttentionRunsFlashAttention) {
  const KernelInputs in(at::kBFloat16, at::Device(at::kCUDA, 0));
  for (const KernelComparison& comparison : kernel_comparisons())
    if (comparison.row.rfind("attention_", 0) == 0)
      expect_fused_meets_reference(comparison, KernelFamily::kAttention, in);
}

}  // namespace
}  // namespace vixen
