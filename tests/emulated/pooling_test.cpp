// The CUDA kernels of mean pooling, emulated: against the reference, bytes.
#include "kernels/pooling.hpp"

#include "emulated/comparison.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kPooling;
constexpr int64_t kWidths[] = {1, 13, 8, 44, 96, 1030};

TEST(EmulatedPooling, MeetsTheReference) {
  const test::Packed packed = test::pack(mixed_lengths(11));
  const int64_t rows = packed.positions, sequences = packed.sequence_keys.numel();
  for (const auto dtype : test::kStorages)
    for (const int64_t width : kWidths) {
      SCOPED_TRACE(testing::Message() << width << " columns");
      const at::Tensor x = random({rows, width}, 1, dtype), grad = random({sequences, width}, 2);
      const int64_t bytes = element_bytes(dtype) * rows * width,
                    offsets = 8 * sequences * width / lanes_of(dtype, width);
      Counts counted = expect_meets_reference("mean_pool", kFamily, dtype,
                                              [&] { return Results{vixen::mean_pool(x, packed.cu_seqlens)}; });
      EXPECT_EQ(counted.loaded_bytes, bytes + offsets);
      EXPECT_EQ(counted.stored_bytes, 4 * sequences * width);
      counted = expect_meets_reference("mean_pool_backward", kFamily, dtype, [&] {
        return Results{vixen::mean_pool_backward(grad, packed.cu_seqlens, rows, dtype)};
      });
      EXPECT_EQ(counted.loaded_bytes, 4 * sequences * width + offsets);
      EXPECT_EQ(counted.stored_bytes, bytes);
    }
}

}  // namespace
}  // namespace vixen::emulated
