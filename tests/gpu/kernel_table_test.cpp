// The CUDA kernels of the table, of 2-means and of the objective against their references, and what kernels.attention =
// fused runs.
#include "cluster/device_kernels.hpp"
#include "device/device.hpp"
#include "fixtures/kernel_comparisons.hpp"
#include "kernels/cuda_kernels.hpp"
#include "objective/device_kernels.hpp"

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

// To the bit, of rows of whole vectors and of others.
TEST_F(GpuKernelTest, EveryCudaKernelOfTheClustersMeetsItsReference) {
  const at::Device gpu(at::kCUDA, 0);
  for (const int64_t width : {37, 384}) {
    const at::Tensor rows = at::randn({500, width}, at::make_generator<at::CPUGeneratorImpl>(1)).to(gpu);
    at::Tensor unit = at::empty_like(rows), expected = at::empty_like(rows);
    for (const auto dtype : {at::kFloat, at::kHalf}) {
      two_means::unit_rows(rows.to(dtype), unit);
      two_means::reference::unit_rows(rows.to(dtype), expected);
      EXPECT_TRUE(unit.equal(expected)) << width << " columns";
    }
    const at::Tensor slots = at::arange(1000, at::kLong).div(300, "floor"), list = at::arange(1000, at::kLong) % 500;
    const at::Tensor listed = list.to(gpu), of_slots = slots.to(gpu);
    const at::Tensor differences = (unit.narrow(0, 0, 4) - unit.narrow(0, 4, 4)).to(at::kDouble);
    EXPECT_TRUE(two_means::row_scores(unit, listed, of_slots, differences)
                    .equal(two_means::reference::row_scores(unit, listed, of_slots, differences)));
    const at::Tensor signs = at::where(list % 3 == 0, -1, 1).to(at::kDouble).to(gpu);
    at::Tensor sums = differences.clone(), expected_sums = differences.clone();
    two_means::add_rows(unit, listed, slots, signs, sums);
    two_means::reference::add_rows(unit, listed, slots, signs, expected_sums);
    EXPECT_TRUE(sums.equal(expected_sums)) << width << " columns";
  }
}

TEST_F(GpuKernelTest, EveryCudaKernelOfTheObjectiveMeetsItsReference) {
  const at::Device gpu(at::kCUDA, 0);
  auto random = at::make_generator<at::CPUGeneratorImpl>(2);
  for (const int64_t columns : {50, 3000}) {
    const at::Tensor scores = (at::rand({200, columns}, random) * 2 - 1).to(gpu);
    const at::Tensor mask = (at::rand({200, columns}, random) < 0.02).to(gpu);
    const at::Tensor positive = at::randint(-1, columns, {200}, random, at::kLong).to(gpu);
    const auto found = row_losses(scores, mask, positive, /*has_gaps=*/true, {});
    const auto expected = reference::row_losses(scores, mask, positive, /*has_gaps=*/true, {});
    EXPECT_TRUE(found.columns.equal(expected.columns)) << columns << " columns";
    EXPECT_LT(difference(found.slopes, expected.slopes), tolerance(at::kFloat));
    EXPECT_LT(difference(found.values, expected.values), tolerance(at::kFloat));
    const auto negatives = hardest_negatives(scores, mask, 10);
    EXPECT_TRUE(negatives.columns.equal(expected.columns));
    at::Tensor sums = at::zeros_like(scores);
    add_entries(sums, found.columns, found.slopes);
    EXPECT_TRUE(sums.equal(at::zeros_like(scores).scatter_add_(1, found.columns, found.slopes)));
  }
}

TEST_F(GpuKernelTest, FusedAttentionRunsFlashAttention) {
  const KernelInputs in(at::kBFloat16, at::Device(at::kCUDA, 0));
  for (const KernelComparison& comparison : kernel_comparisons())
    if (comparison.row.rfind("attention_", 0) == 0)
      expect_fused_meets_reference(comparison, KernelFamily::kAttention, in);
}

}  // namespace
}  // namespace vixen
