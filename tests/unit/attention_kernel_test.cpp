// Packed attention: fused against reference, reference against a direct double-precision form, gradients against
// finite differences; instruction sets, threads, lengths, head widths, shared key-value heads and causal masks.
#include <cmath>

#include "kernels/packed_attention.hpp"
#include "kernels/reference.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

Dropout rate(double p) {
  return {.p = p, .seed = 77, .step = 3, .site = 5};
}

struct Case {
  Packed packed;
  at::Tensor qkv, grad;
  AttentionShape shape;
};

Case make_case(const std::vector<int64_t>& lengths, int64_t heads, int64_t head_dim, at::ScalarType dtype) {
  Case c{pack(lengths), {}, {}, {}};
  c.qkv = random({c.packed.positions, 3 * heads * head_dim}, 11, dtype);
  c.grad = random({c.packed.positions, heads * head_dim}, 12, dtype);
  c.shape = {heads, c.packed.max_seqlen};
  return c;
}

/// As decoders have it: causal, `sharing` query heads to each of kv_heads.
Case make_decoder_case(const std::vector<int64_t>& lengths, int64_t kv_heads, int64_t sharing, int64_t head_dim,
                       at::ScalarType dtype) {
  Case c{pack(lengths), {}, {}, {}};
  const int64_t heads = kv_heads * sharing;
  c.qkv = random({c.packed.positions, (heads + 2 * kv_heads) * head_dim}, 21, dtype);
  c.grad = random({c.packed.positions, heads * head_dim}, 22, dtype);
  c.shape = {.heads = heads, .max_seqlen = c.packed.max_seqlen, .kv_heads = kv_heads, .causal = true};
  return c;
}

/// Keep factors of each sequence, double [H, L, L], from the mask of the header's definition.
std::vector<at::Tensor> keep_factors(const Packed& p, int64_t heads, const Dropout& dropout) {
  std::vector<at::Tensor> keep;
  for (int64_t i = 0; i < p.sequence_keys.size(0); ++i) {
    const int64_t first = p.cu_seqlens[i].item<int>(), last = p.cu_seqlens[i + 1].item<int>();
    const TokenKeys keys{p.keys.sequence.slice(0, first, last), p.keys.position.slice(0, first, last)};
    const at::Tensor mask = dropout_mask(keys, (heads - 1) * 65536 + last - first, dropout);
    std::vector<at::Tensor> of_heads;
    of_heads.reserve(static_cast<size_t>(heads));
    for (int64_t h = 0; h < heads; ++h) of_heads.push_back(mask.slice(1, h * 65536, h * 65536 + last - first));
    keep.push_back(at::stack(of_heads).to(at::kDouble) / (1 - dropout.p));
  }
  return keep;
}

/// Softmax attention one sequence and head at a time, in double.
at::Tensor direct(const at::Tensor& qkv, const Packed& p, const AttentionShape& shape,
                  const std::vector<at::Tensor>& keep) {
  const int64_t heads = shape.heads, kv_heads = shape.key_value_heads(), d = shape.head_dim(qkv.size(1));
  const at::Tensor x = qkv.to(at::kDouble);
  at::Tensor out = at::zeros({qkv.size(0), heads * d}, at::kDouble);
  for (int64_t i = 0; i < p.sequence_keys.size(0); ++i) {
    const int64_t first = p.cu_seqlens[i].item<int>(), last = p.cu_seqlens[i + 1].item<int>();
    const at::Tensor rows = x.slice(0, first, last);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t shared = h / (heads / kv_heads);
      const at::Tensor q = rows.narrow(1, h * d, d), k = rows.narrow(1, (heads + shared) * d, d);
      const at::Tensor v = rows.narrow(1, (heads + kv_heads + shared) * d, d);
      at::Tensor scores = at::matmul(q, k.t()) / std::sqrt(static_cast<double>(d));
      if (shape.causal) scores = scores + at::full_like(scores, -1e30).triu(1);
      out.slice(0, first, last).narrow(1, h * d, d).copy_(at::matmul(at::softmax(scores, -1) * keep[i][h], v));
    }
  }
  return out;
}

void expect_reference_follows_the_formula(const Case& c) {
  for (const double p : {0.0, 0.2}) {
    const auto result =
        reference::packed_attention(c.qkv, c.packed.cu_seqlens, c.packed.sequence_keys, c.shape, rate(p));
    const at::Tensor want = direct(c.qkv, c.packed, c.shape, keep_factors(c.packed, c.shape.heads, rate(p)));
    EXPECT_LT(difference(result.context, want), 1e-6) << p;
  }
}

TEST(PackedAttention, ReferenceFollowsTheFormula) {
  expect_reference_follows_the_formula(make_case({5, 1, 12, 5, 9}, 3, 8, at::kFloat));
  expect_reference_follows_the_formula(make_decoder_case({5, 1, 12, 5, 9}, 2, 3, 8, at::kFloat));
}

void expect_reference_backward_is_the_derivative(const Case& c) {
  const Dropout dropout = rate(0.25);
  const auto forward =
      reference::packed_attention(c.qkv, c.packed.cu_seqlens, c.packed.sequence_keys, c.shape, dropout);
  const at::Tensor grad = reference::packed_attention_backward(c.grad, c.qkv, forward, c.packed.cu_seqlens,
                                                               c.packed.sequence_keys, c.shape, dropout);
  const std::vector<at::Tensor> keep = keep_factors(c.packed, c.shape.heads, dropout);
  const auto value = [&](const at::Tensor& qkv) {
    return (direct(qkv, c.packed, c.shape, keep) * c.grad.to(at::kDouble)).sum().item<double>();
  };
  const int64_t columns = c.qkv.size(1);
  for (int64_t t = 0; t < c.packed.positions; t += 3)
    for (int64_t column = 0; column < columns; ++column)
      EXPECT_NEAR(grad[t][column].item<double>(), slope_along(c.qkv, t * columns + column, 1e-5, value), 1e-5)
          << t << " " << column;
}

TEST(PackedAttention, ReferenceBackwardIsTheDerivative) {
  expect_reference_backward_is_the_derivative(make_case({4, 1, 9}, 2, 4, at::kFloat));
  expect_reference_backward_is_the_derivative(make_decoder_case({4, 1, 9}, 2, 3, 2, at::kFloat));
}

void expect_fused_is_reference(const Case& c, const Dropout& dropout, double tolerance) {
  const auto& p = c.packed;
  const auto want = reference::packed_attention(c.qkv, p.cu_seqlens, p.sequence_keys, c.shape, dropout);
  const auto want_grad =
      reference::packed_attention_backward(c.grad, c.qkv, want, p.cu_seqlens, p.sequence_keys, c.shape, dropout);
  for_each_isa([&](const char*) {
    const auto got = packed_attention(c.qkv, p.cu_seqlens, p.sequence_keys, c.shape, dropout);
    EXPECT_EQ(got.context.scalar_type(), c.qkv.scalar_type());
    EXPECT_LT(difference(got.context, want.context), tolerance);
    EXPECT_LT(difference(got.lse, want.lse), 2e-6);
    const auto grad = packed_attention_backward(c.grad, c.qkv, got, p.cu_seqlens, p.sequence_keys, c.shape, dropout);
    EXPECT_LT(difference(grad, want_grad), tolerance);
  });
}

TEST(PackedAttention, FusedIsReferenceForAllShortLengths) {
  for (const auto dtype : kStorages)
    for (const double p : {0.0, 0.1})
      expect_fused_is_reference(make_case(mixed_lengths(40), 3, 32, dtype), rate(p), tolerance(dtype));
}

TEST(PackedAttention, FusedIsReferenceForAnyHeadWidth) {
  for (const int64_t head_dim : {1, 5, 16, 24, 48, 64, 96})
    expect_fused_is_reference(make_case({7, 1, 18, 33}, 2, head_dim, at::kFloat), rate(0.1), tolerance(at::kFloat));
}

TEST(PackedAttention, FusedIsReferenceForLongSequences) {
  for (const auto dtype : kStorages)
    expect_fused_is_reference(make_case({300, 2, 513}, 2, 64, dtype), rate(0.1), tolerance(dtype));
}

TEST(PackedAttention, CausalGroupedFusedIsReference) {
  for (const auto dtype : kStorages)
    for (const int64_t sharing : {1, 3, 7})
      for (const double p : {0.0, 0.1})
        expect_fused_is_reference(make_decoder_case(mixed_lengths(40), 2, sharing, 16, dtype), rate(p),
                                  tolerance(dtype));
  for (const int64_t head_dim : {64, 80, 96, 128, 256})
    expect_fused_is_reference(make_decoder_case({7, 1, 18, 33, 40}, 2, 3, head_dim, at::kFloat), rate(0),
                              tolerance(at::kFloat));
  for (const auto dtype : kStorages)
    expect_fused_is_reference(make_decoder_case({300, 2, 513}, 1, 3, 64, dtype), rate(0), tolerance(dtype));
}

TEST(PackedAttention, GroupedWithoutAMaskAndAMaskWithoutGroups) {
  Case grouped = make_decoder_case(mixed_lengths(40), 3, 3, 32, at::kFloat);
  grouped.shape.causal = false;
  expect_fused_is_reference(grouped, rate(0.1), tolerance(at::kFloat));
  Case causal = make_case(mixed_lengths(40), 3, 32, at::kFloat);
  causal.shape.causal = true;
  expect_fused_is_reference(causal, rate(0.1), tolerance(at::kFloat));
}

TEST(PackedAttention, CausalPrefixesDoNotSeeWhatFollows) {
  const Case c = make_decoder_case({40}, 2, 3, 16, at::kFloat);
  const auto whole = packed_attention(c.qkv, c.packed.cu_seqlens, c.packed.sequence_keys, c.shape, rate(0));
  for (const int64_t length : {1, 7, 16, 31}) {
    AttentionShape shape = c.shape;
    shape.max_seqlen = length;
    const auto prefix = packed_attention(c.qkv.slice(0, 0, length), at::tensor({int64_t{0}, length}).to(at::kInt),
                                         c.packed.sequence_keys, shape, rate(0));
    EXPECT_LT(difference(prefix.context, whole.context.slice(0, 0, length)), 1e-6) << length;
  }
}

TEST(PackedAttention, HeadsThatDoNotShareEvenlyAreRefused) {
  Case c = make_decoder_case({3, 9}, 2, 3, 8, at::kFloat);
  c.shape.kv_heads = 4;
  EXPECT_ANY_THROW(packed_attention(c.qkv, c.packed.cu_seqlens, c.packed.sequence_keys, c.shape, rate(0)));
}

TEST(PackedAttention, LargeScoresStayFinite) {
  Case c = make_case({6, 20}, 2, 32, at::kFloat);
  c.qkv.mul_(12);
  expect_fused_is_reference(c, rate(0), 2e-4);  // scores of hundreds: their rounding shows in the probabilities
}

TEST(PackedAttention, EmptySequencesAndBatches) {
  const Case c = make_case({3, 0, 2}, 2, 8, at::kFloat);
  expect_fused_is_reference(c, rate(0.1), tolerance(at::kFloat));
  const Packed none = pack({});
  const auto result = packed_attention(at::zeros({0, 48}), none.cu_seqlens, none.sequence_keys, {2, 0}, rate(0));
  EXPECT_EQ(result.context.size(0), 0);
}

TEST(PackedAttention, TooShortMaxSeqlenIsRefused) {
  Case c = make_case({3, 9}, 2, 8, at::kFloat);
  c.shape.max_seqlen = 8;
  EXPECT_ANY_THROW(packed_attention(c.qkv, c.packed.cu_seqlens, c.packed.sequence_keys, c.shape, rate(0)));
}

void expect_threads_change_nothing(const Case& c) {
  const auto& p = c.packed;
  expect_same_for_threads([&] {
    const auto forward = packed_attention(c.qkv, p.cu_seqlens, p.sequence_keys, c.shape, rate(0.1));
    return std::vector<at::Tensor>{
        forward.context, forward.lse,
        packed_attention_backward(c.grad, c.qkv, forward, p.cu_seqlens, p.sequence_keys, c.shape, rate(0.1))};
  });
}

TEST(PackedAttention, ThreadsChangeNothing) {
  expect_threads_change_nothing(make_case(mixed_lengths(40), 4, 32, at::kFloat));
  expect_threads_change_nothing(make_decoder_case(mixed_lengths(40), 3, 3, 64, at::kFloat));
}

TEST(PackedAttention, ASequenceDoesNotSeeItsBatch) {
  const Case c = make_case({5, 17, 3}, 2, 32, at::kFloat);
  const auto whole = packed_attention(c.qkv, c.packed.cu_seqlens, c.packed.sequence_keys, c.shape, rate(0.1));
  const auto alone = packed_attention(c.qkv.slice(0, 5, 22), at::tensor({0, 17}, at::kInt),
                                      c.packed.sequence_keys.slice(0, 1, 2), {2, 17}, rate(0.1));
  EXPECT_TRUE(at::equal(whole.context.slice(0, 5, 22), alone.context));
}

}  // namespace
}  // namespace vixen
