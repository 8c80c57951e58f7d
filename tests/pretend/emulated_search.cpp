// The exact search through CUDA's launch code on the pretend device, its kernels emulated: the CPU's answers to the
// bit.
#include <gtest/gtest.h>

#include "kernels/choice.hpp"
#include "pretend/emulated_kernels.hpp"
#include "pretend/pretend_device.hpp"
#include "search/exact_search.hpp"
#include "search/exact_search_device.hpp"

namespace vixen::pretend {
namespace {

at::Tensor unit_rows(int64_t n, int64_t d, uint64_t seed) {
  const at::Tensor rows = at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
  return rows / rows.norm(2, 1, true);
}

TEST(EmulatedSearchTest, AnswersAreTheCpusToTheBit) {
  device();
  set_kernel_choices({});
  take_faults();
  IndexConfig config;
  config.block_queries = 4;
  config.block_labels = 256;
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf}) {
    const at::Tensor labels = unit_rows(700, 40, 1).to(dtype), queries = unit_rows(6, 40, 2);
    for (const int64_t k : {1, 60}) {
      const TopK expected = ExactIndex(labels, 500, config).search(queries, k);
      const EmulatedKernels kernels;
      emulated::reset_counts();
      const ScaledRows on_host = ScaledRows::streamed(labels, {}, device());
      const TopK resident = ExactIndex(labels.to(device()), 500, config).search(queries.to(device()), k);
      const TopK streamed =
          search_on_device(DeviceLabels(on_host, 500, 256), queries.to(device()), k, config, /*show_progress=*/false);
      EXPECT_GT(emulated::counts().launches, 10) << "the search ran on CUDA kernels";
      for (const TopK* found : {&resident, &streamed}) {
        EXPECT_TRUE(found->ids.cpu().equal(expected.ids)) << "k " << k;
        EXPECT_TRUE(found->scores.cpu().equal(expected.scores)) << "k " << k;
      }
    }
  }
  EXPECT_EQ(text_of(take_faults()), "");
}

}  // namespace
}  // namespace vixen::pretend
