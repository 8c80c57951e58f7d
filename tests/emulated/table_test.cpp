// Every row of src/kernels/cuda/table.cpp, emulated, against its reference: a kernel that joins the table is held to it
// before it has a test of its own.
#include "emulated/comparison.hpp"

namespace vixen::emulated {
namespace {

TEST(EmulatedTable, EveryRowMeetsItsReference) {
  const auto facts = kernel_row_facts();
  const auto comparisons = kernel_comparisons();
  ASSERT_EQ(facts.size(), comparisons.size());
  int compared = 0;
  for (size_t i = 0; i < facts.size(); ++i) {
    if (!facts[i].on_cuda(emulated_cuda_kernels())) continue;
    ++compared;
    // Whole vectors, and rows and heads that are none.
    for (const auto& [width, head_dim] : {std::pair<int64_t, int64_t>{96, 24}, {50, 10}, {7, 6}})
      for (const auto dtype : test::kStorages) {
        SCOPED_TRACE(testing::Message() << width << " columns, heads of " << head_dim);
        KernelInputs in(dtype, at::kCPU);
        in.width = width;
        in.head_dim = head_dim;
        in.qkv_width = 8 * head_dim;
        expect_meets_reference(facts[i].name, facts[i].family, dtype, [&] { return comparisons[i].run(in); });
      }
  }
  EXPECT_GE(compared, 21);
}

}  // namespace
}  // namespace vixen::emulated
