// The dropout mask in plain ATen: Philox4x32-10 on int64 tensors, whose wrapping products keep the bits we need.
//   T positions, width columns, N = ceil(width / 8) Philox blocks a row.
#include "base/check.hpp"
#include "base/random.hpp"
#include "kernels/reference.hpp"

namespace vixen::reference {
namespace {

constexpr int64_t kLow32 = 0xffffffff;

/// High and low words of the 32 x 32 bit product. The int64 product wraps, but all its 64 bits are right.
std::pair<at::Tensor, at::Tensor> multiply_wide(const at::Tensor& words, int64_t factor) {
  const at::Tensor product = words * factor;
  return {product.bitwise_right_shift(32).bitwise_and(kLow32), product.bitwise_and(kLow32)};
}

}  // namespace

at::Tensor philox_draws(const at::Tensor& counter0, const at::Tensor& counter1, const at::Tensor& counter2,
                        const Dropout& dropout) {
  auto words = at::broadcast_tensors({counter0, counter1, counter2});
  at::Tensor c0 = words[0], c1 = words[1], c2 = words[2];
  at::Tensor c3 = at::full_like(c0, static_cast<int64_t>(dropout.step & kLow32), at::MemoryFormat::Contiguous);
  uint32_t key0 = static_cast<uint32_t>(dropout.seed);
  uint32_t key1 = static_cast<uint32_t>(dropout.seed >> 32) ^ static_cast<uint32_t>(RandomStream::kDropout);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const auto [high0, low0] = multiply_wide(c0, kPhiloxMultiplier0);
    const auto [high1, low1] = multiply_wide(c2, kPhiloxMultiplier1);
    c0 = high1.bitwise_xor(c1).bitwise_xor(static_cast<int64_t>(key0));
    c1 = low1;
    c2 = high0.bitwise_xor(c3).bitwise_xor(static_cast<int64_t>(key1));
    c3 = low0;
    key0 += kPhiloxStep0;
    key1 += kPhiloxStep1;
  }
  const at::Tensor block = at::stack({c0, c1, c2, c3}, -1);  // [S..., 4]
  const at::Tensor halves = at::stack({block.bitwise_and(0xffff), block.bitwise_right_shift(16)}, -1);
  return halves.flatten(-2);
}

at::Tensor apply_dropout(const at::Tensor& x, const TokenKeys& keys, const Dropout& dropout) {
  const at::Tensor mask = vixen::dropout_mask(keys, x.size(1), dropout);
  return (x.to(at::kFloat) * mask * (1.0 / (1.0 - dropout.p))).to(x.scalar_type());
}

}  // namespace vixen::reference
