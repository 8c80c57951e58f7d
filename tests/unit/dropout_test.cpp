// Dropout: the mask is the one that its definition gives, on every instruction set, and is as random as it should be.
#include <cmath>

#include "base/random.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

Dropout example() {
  return {.p = 0.1, .seed = 0x123456789abcdefull, .step = 41, .site = 9};
}

/// The definition of kernels/dropout.hpp, element by element.
bool kept(const Dropout& d, int64_t sequence, int64_t position, int64_t column) {
  const auto block = philox4x32({static_cast<uint32_t>(column / 8), static_cast<uint32_t>(sequence),
                                 d.site << 16 | static_cast<uint32_t>(position), static_cast<uint32_t>(d.step)},
                                {static_cast<uint32_t>(d.seed),
                                 static_cast<uint32_t>(d.seed >> 32) ^ static_cast<uint32_t>(RandomStream::kDropout)});
  const uint32_t draw = (block[(column % 8) / 2] >> (column % 2 ? 16 : 0)) & 0xffff;
  return draw >= static_cast<uint32_t>(std::lround(d.p * 65536));
}

TEST(Dropout, TokenKeysNameSequenceAndPosition) {
  const Packed p = pack({3, 1, 2});
  EXPECT_EQ(p.keys.position.dtype(), at::kInt);
  EXPECT_TRUE(at::equal(p.keys.position, at::tensor({0, 1, 2, 0, 0, 1}, at::kInt)));
  EXPECT_TRUE(at::equal(p.keys.sequence, p.sequence_keys.index_select(0, at::tensor({0, 0, 0, 1, 2, 2}, at::kLong))));
}

TEST(Dropout, MaskFollowsItsDefinition) {
  const Packed p = pack({3, 5});
  const at::Tensor mask = dropout_mask(p.keys, 21, example());
  for (int64_t t = 0; t < p.positions; ++t)
    for (int64_t c = 0; c < 21; ++c)
      EXPECT_EQ(mask[t][c].item<int>() == 1,
                kept(example(), p.keys.sequence[t].item<int64_t>(), p.keys.position[t].item<int64_t>(), c))
          << t << " " << c;
}

TEST(Dropout, FusedMaskIsTheReferenceMask) {
  const Packed p = pack(mixed_lengths(12));
  for_each_isa([&](const char*) {
    for (const int64_t width : {1, 7, 16, 63, 64, 65, 384, 515}) {
      const at::Tensor fused = apply_dropout(at::ones({p.positions, width}), p.keys, example());
      const at::Tensor mask = dropout_mask(p.keys, width, example());
      EXPECT_TRUE(at::equal(fused.ne(0).to(at::kByte), mask)) << width;
      EXPECT_LT(difference(fused, mask.to(at::kFloat) / 0.9), 1e-6);
    }
  });
}

TEST(Dropout, Bfloat16KeepsItsDtypeAndMask) {
  const Packed p = pack({4, 9});
  const at::Tensor x = random({p.positions, 96}, 1, at::kBFloat16);
  for_each_isa([&](const char*) {
    const at::Tensor y = apply_dropout(x, p.keys, example());
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(
        at::equal(y, (x.to(at::kFloat) * dropout_mask(p.keys, 96, example()) * static_cast<float>(1 / (1 - 0.1)))
                         .to(at::kBFloat16)));
  });
}

TEST(Dropout, ShareKeptAndIndependence) {
  const Packed p = pack(std::vector<int64_t>(200, 10));
  Dropout d = example();
  for (const double rate : {0.1, 0.5}) {
    d.p = rate;
    const at::Tensor mask = dropout_mask(p.keys, 256, d).to(at::kDouble);
    const double n = static_cast<double>(mask.numel()), sigma = std::sqrt(rate * (1 - rate) / n);
    EXPECT_NEAR(mask.mean().item<double>(), 1 - rate, 5 * sigma);
    // Neighbours in either direction, and the same place at another site, step or seed, are uncorrelated.
    const auto correlation = [&](const at::Tensor& a, const at::Tensor& b) {
      return ((a - a.mean()) * (b - b.mean())).mean().item<double>() / (rate * (1 - rate));
    };
    const double bound = 5 / std::sqrt(n / 2);
    EXPECT_LT(std::abs(correlation(mask.slice(1, 0, 255), mask.slice(1, 1))), bound);
    EXPECT_LT(std::abs(correlation(mask.slice(0, 0, -1), mask.slice(0, 1))), bound);
    for (int change = 0; change < 3; ++change) {
      Dropout other = d;
      (change == 0 ? other.step : other.seed) += change < 2;
      other.site += change == 2;
      EXPECT_LT(std::abs(correlation(mask, dropout_mask(p.keys, 256, other).to(at::kDouble))), bound) << change;
    }
  }
}

TEST(Dropout, DependsOnSequenceKeyNotOnPlace) {
  const Packed p = pack({3, 6, 2});
  const at::Tensor whole = dropout_mask(p.keys, 64, example());
  const at::Tensor alone_keys = p.sequence_keys.slice(0, 1, 2);
  const at::Tensor alone = dropout_mask(make_token_keys(at::tensor({0, 6}, at::kInt), alone_keys), 64, example());
  EXPECT_TRUE(at::equal(whole.slice(0, 3, 9), alone));
}

TEST(Dropout, NoneWithoutProbability) {
  const Packed p = pack({3});
  const at::Tensor x = random({3, 8}, 2);
  EXPECT_TRUE(at::equal(apply_dropout(x, p.keys, {}), x));
  EXPECT_TRUE(dropout_mask(p.keys, 8, {}).eq(1).all().item<bool>());
}

TEST(Dropout, ThreadsChangeNothing) {
  const Packed p = pack(mixed_lengths(40));
  const at::Tensor x = random({p.positions, 100}, 3);
  expect_same_for_threads([&] { return std::vector<at::Tensor>{apply_dropout(x, p.keys, example())}; });
}

}  // namespace
}  // namespace vixen
