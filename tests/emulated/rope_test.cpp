// The CUDA kernel of rotary positions, emulated: against the reference, there and back, bytes.
#include "kernels/rope.hpp"

#include "emulated/comparison.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kRope;

struct Heads {
  int64_t heads, kv_heads, head_dim;
};
// Whole vectors in half a head, of both storages or of float32 alone, and single columns; groups of heads that are
// not full.
constexpr Heads kHeads[] = {{1, 1, 2}, {3, 1, 16}, {4, 2, 24}, {14, 2, 64}, {5, 5, 10}, {2, 1, 8}};

at::Tensor angle_table(int64_t positions, int64_t head_dim) {
  const at::Tensor angles = random({positions, head_dim / 2}, 2) * 3;
  return at::cat({angles.cos(), angles.sin()}, 1);
}

TEST(EmulatedRope, MeetsTheReferenceBothWays) {
  const test::Packed packed = test::pack(mixed_lengths(7));
  const at::Tensor positions = packed.keys.position.to(at::kLong);
  for (const auto dtype : test::kStorages)
    for (const auto& [heads, kv_heads, head_dim] : kHeads)
      for (const bool inverse : {false, true}) {
        SCOPED_TRACE(testing::Message() << heads << " heads of " << head_dim);
        const AttentionShape shape{.heads = heads, .max_seqlen = 7, .kv_heads = kv_heads, .causal = true};
        const at::Tensor qkv = random({packed.positions, (heads + 2 * kv_heads) * head_dim}, 1, dtype);
        const at::Tensor table = angle_table(7, head_dim);
        const Counts counted = expect_meets_reference("rope", kFamily, dtype, [&] {
          at::Tensor turned = qkv.clone();
          apply_rope(turned, positions, table, shape, inverse);
          return Results{turned};
        });
        const int64_t turned = packed.positions * (heads + kv_heads) * head_dim;
        const int64_t groups = (heads + kv_heads + 3) / 4, lanes = lanes_of(dtype, head_dim / 2);
        const int64_t threads = packed.positions * groups * (head_dim / 2 / lanes);
        EXPECT_EQ(counted.stored_bytes, element_bytes(dtype) * turned);
        EXPECT_EQ(counted.loaded_bytes, element_bytes(dtype) * turned + threads * (8 * lanes + 8));
      }
}

TEST(EmulatedRope, TheInverseTurnsBack) {
  const Emulation emulation;
  const AttentionShape shape{.heads = 3, .max_seqlen = 7, .kv_heads = 2, .causal = true};
  const at::Tensor qkv = random({9, 7 * 16}, 1), positions = at::arange(9, at::kLong), table = angle_table(9, 16);
  at::Tensor turned = qkv.clone();
  apply_rope(turned, positions, table, shape, false);
  EXPECT_GT(test::difference(turned, qkv), 0.1);
  EXPECT_TRUE(same_bits(turned.narrow(1, 5 * 16, 32).contiguous(), qkv.narrow(1, 5 * 16, 32).contiguous()))
      << "values are not turned";
  apply_rope(turned, positions, table, shape, true);
  EXPECT_LT(test::difference(turned, qkv), 1e-6);
}

}  // namespace
}  // namespace vixen::emulated
