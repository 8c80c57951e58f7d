// The CUDA kernels of attention over short sequences, emulated: against the reference with its very masks, every form
// and tile, bytes, and what they do not take.
#include <algorithm>

#include "emulated/comparison.hpp"
#include "kernels/packed_attention.hpp"
#include "kernels/reference.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kAttention;

struct Case {
  std::vector<int64_t> lengths;
  int64_t kv_heads, sharing, head_dim;
};
// Tiles of four rows and of eight, and their chunks of 32 keys; heads of one quad, of a part of a warp, of a whole one,
// of no whole vector; a tile, a chunk and a block that are not full; sequences without positions.
const std::vector<Case> kCases = {{{1}, 1, 1, 1},         {{3, 3, 3}, 4, 1, 8},    {{3, 0, 4, 1}, 2, 3, 24},
                                  {{5, 1, 12}, 2, 2, 10}, {{32, 9}, 1, 1, 32},     {{26, 8, 17}, 1, 3, 8},
                                  {{33, 2}, 2, 1, 64},    {{40, 31, 7}, 1, 2, 40}, {{65, 70}, 1, 1, 128},
                                  {{128, 1}, 1, 2, 36},   {{131, 40}, 1, 1, 32},   {{200}, 1, 2, 12},
                                  {{256, 5}, 1, 1, 8}};

struct Inputs {
  test::Packed packed;
  AttentionShape shape;
  at::Tensor qkv, grad;
};
Inputs inputs_of(const Case& c, at::ScalarType dtype, bool causal) {
  Inputs in{test::pack(c.lengths), {}, {}, {}};
  const int64_t heads = c.kv_heads * c.sharing;
  in.shape = {.heads = heads, .max_seqlen = in.packed.max_seqlen, .kv_heads = c.kv_heads, .causal = causal};
  in.qkv = random({in.packed.positions, (heads + 2 * c.kv_heads) * c.head_dim}, 1, dtype);
  in.grad = random({in.packed.positions, heads * c.head_dim}, 2, dtype);
  return in;
}
Dropout rate(double p) {
  return {.p = p, .seed = 77, .step = 3, .site = 5};
}

Results forward(const Inputs& in, const Dropout& dropout) {
  const auto got = packed_attention(in.qkv, in.packed.cu_seqlens, in.packed.sequence_keys, in.shape, dropout);
  return {got.context, got.lse};
}
Results backward(const Inputs& in, const Dropout& dropout) {
  const auto kept =
      reference::packed_attention(in.qkv, in.packed.cu_seqlens, in.packed.sequence_keys, in.shape, dropout);
  return {packed_attention_backward(in.grad, in.qkv, kept, in.packed.cu_seqlens, in.packed.sequence_keys, in.shape,
                                    dropout)};
}

template <class Visit>
void for_cases(Visit visit) {
  for (const auto dtype : test::kStorages)
    for (const Case& c : kCases)
      for (const auto& [causal, p] : {std::pair{false, 0.2}, {true, 0.0}}) {
        SCOPED_TRACE(testing::Message() << "longest " << *std::max_element(c.lengths.begin(), c.lengths.end()) << ", "
                                        << c.kv_heads << " x " << c.sharing << " heads of " << c.head_dim << ", causal "
                                        << causal << ", dropout " << p);
        visit(c, inputs_of(c, dtype, causal), dtype, p);
      }
}

int64_t threads_of(int64_t longest, int64_t rows_a_tile) {
  return 32 * std::min<int64_t>(8, (longest + rows_a_tile - 1) / rows_a_tile);
}
// Offsets of every thread, and the sequence's key of those that have positions.
int64_t bytes_of_blocks(const Case& c, int64_t threads, double p) {
  int64_t bytes = 0;
  for (const int64_t length : c.lengths) bytes += c.kv_heads * threads * (p > 0 && length > 0 ? 16 : 8);
  return bytes;
}

TEST(EmulatedAttention, ForwardMeetsTheReference) {
  for_cases([](const Case& c, const Inputs& in, at::ScalarType dtype, double p) {
    const Counts counted =
        expect_meets_reference("attention_forward", kFamily, dtype, [&] { return forward(in, rate(p)); });
    const int64_t numbers = element_bytes(dtype) * in.packed.positions * c.head_dim, heads = in.shape.heads;
    const int64_t longest = in.shape.max_seqlen, threads = threads_of(longest, longest <= 4 ? 4 : 8);
    EXPECT_EQ(counted.stored_bytes, numbers * heads + 4 * in.packed.positions * heads);
    EXPECT_EQ(counted.loaded_bytes, numbers * (heads + 2 * c.kv_heads) + bytes_of_blocks(c, threads, p));
  });
}

TEST(EmulatedAttention, BackwardMeetsTheReference) {
  for_cases([](const Case& c, const Inputs& in, at::ScalarType dtype, double p) {
    const Counts counted =
        expect_meets_reference("attention_backward", kFamily, dtype, [&] { return backward(in, rate(p)); });
    const int64_t element = element_bytes(dtype), numbers = element * in.packed.positions * c.head_dim;
    const int64_t heads = in.shape.heads, longest = in.shape.max_seqlen, rows = longest <= 4 || longest > 32 ? 4 : 8;
    const int64_t threads = threads_of(longest, rows), round = threads / 32 * rows;
    int64_t again = 0;  // queries and their gradients, of the rounds after the first
    for (const int64_t length : c.lengths)
      if (c.sharing > 1 && length > 0) again += 2 * element * heads * c.head_dim * length * ((length - 1) / round);
    EXPECT_EQ(counted.stored_bytes, numbers * (heads + 2 * c.kv_heads));
    EXPECT_EQ(counted.loaded_bytes, numbers * 4 * (heads + c.kv_heads) + 4 * in.packed.positions * heads + again +
                                        bytes_of_blocks(c, threads, p));
  });
}

// Scores of hundreds: their own rounding shows in the probabilities.
TEST(EmulatedAttention, LargeScoresStayFinite) {
  Inputs in = inputs_of({{6, 20}, 2, 1, 32}, at::kFloat, false);
  in.qkv.mul_(12);
  const auto meets = [&](const char* kernel, const Body& body) {
    expect_meets_reference(kernel, kFamily, at::kFloat, body, 100);
  };
  meets("attention_forward, large scores", [&] { return forward(in, rate(0)); });
  meets("attention_backward, large scores", [&] { return backward(in, rate(0)); });
}

// A view that begins in the middle of a vector takes the form of single columns.
TEST(EmulatedAttention, RowsThatBeginBesideVectorsAreRead) {
  Inputs in = inputs_of({{9, 3}, 1, 1, 8}, at::kFloat, true);
  in.qkv = random({in.qkv.numel() + 1}, 3).narrow(0, 1, in.qkv.numel()).view(in.qkv.sizes());
  expect_meets_reference("attention_forward", kFamily, at::kFloat, [&] { return forward(in, rate(0.1)); });
  expect_meets_reference("attention_backward", kFamily, at::kFloat, [&] { return backward(in, rate(0.1)); });
}

// Exactly one key is kept where all others are dropped: the context shows which, to the bit.
TEST(EmulatedAttention, DropsWhatTheMaskOfTheHeaderDrops) {
  const int64_t length = 45, d = 45;
  Inputs in = inputs_of({{length}, 2, 1, d}, at::kFloat, false);
  in.qkv.zero_();  // all probabilities are 1 / L
  for (int64_t head = 0; head < 2; ++head) in.qkv.narrow(1, (4 + head) * d, d).copy_(at::eye(d));  // values: one-hot
  const Emulation emulation;
  const at::Tensor context = forward(in, rate(0.5))[0];
  const TokenKeys keys{in.packed.keys.sequence, in.packed.keys.position};
  const at::Tensor mask = dropout_mask(keys, 65536 + length, rate(0.5));
  for (int64_t head = 0; head < 2; ++head)
    EXPECT_TRUE(context.narrow(1, head * d, d).ne(0).equal(mask.narrow(1, head * 65536, length).ne(0))) << head;
}

TEST(EmulatedAttention, WhatIsTooLargeIsRefused) {
  const Emulation emulation;
  const auto refused = [](const Case& c) {
    const Inputs in = inputs_of(c, at::kFloat, false);
    EXPECT_THROW(forward(in, rate(0)), Fault);
    EXPECT_THROW(backward(in, rate(0)), Fault);
  };
  refused({{257}, 1, 1, 8});
  refused({{160}, 1, 1, 128});  // shared memory
  refused({{3}, 1, 1, 132});
  refused({{100}, 1, 21, 4});
}

// Long sequences leave shared memory for fewer warps.
TEST(EmulatedAttention, FewerWarpsMeetTheReference) {
  for (const int64_t head_dim : {64, 100}) {
    const Inputs in = inputs_of({{head_dim == 64 ? 250 : 180}, 1, 1, head_dim}, at::kFloat, false);
    expect_meets_reference("attention_forward", kFamily, at::kFloat, [&] { return forward(in, rate(0.1)); });
    expect_meets_reference("attention_backward", kFamily, at::kFloat, [&] { return backward(in, rate(0.1)); });
  }
}

// The largest block that there is stays within what sm_80 has.
TEST(EmulatedAttention, SharedMemoryIsBounded) {
  const Inputs in = inputs_of({{128}, 1, 16, 128}, at::kFloat, true);
  const Emulation emulation;
  reset_counts();
  forward(in, rate(0));
  EXPECT_LE(counts().shared_bytes, 163 << 10);
  reset_counts();
  backward(in, rate(0));
  EXPECT_GT(counts().shared_bytes, 150 << 10);
  EXPECT_LE(counts().shared_bytes, 163 << 10);
}

}  // namespace
}  // namespace vixen::emulated
