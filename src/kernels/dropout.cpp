// Dispatch of dropout, and what all its forms share: token keys and the readable mask.
#include "kernels/dropout.hpp"

#include "base/check.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/packed_sequences.hpp"
#include "kernels/reference.hpp"

namespace vixen {

TokenKeys make_token_keys(const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys) {
  return make_token_keys(cu_seqlens, sequence_keys, cu_seqlens[-1].item<int32_t>());
}

TokenKeys make_token_keys(const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys, int64_t positions) {
  VIXEN_CHECK(cu_seqlens.size(0) == sequence_keys.size(0) + 1, "{} offsets for {} sequences", cu_seqlens.size(0),
              sequence_keys.size(0));
  const at::Tensor starts = cu_seqlens.slice(0, 0, -1).to(at::kLong);
  const at::Tensor lengths = cu_seqlens.slice(0, 1).to(at::kLong) - starts;
  TokenKeys keys;
  keys.sequence = at::repeat_interleave(sequence_keys, lengths, 0, positions);
  keys.position =
      (at::arange(positions, starts.options()) - at::repeat_interleave(starts, lengths, 0, positions)).to(at::kInt);
  return keys;
}

at::Tensor dropout_mask(const TokenKeys& keys, int64_t width, const Dropout& dropout) {
  const auto options = keys.sequence.options().dtype(at::kLong);
  if (!dropout.active()) return at::ones({keys.sequence.size(0), width}, options.dtype(at::kByte));
  const at::Tensor blocks = at::arange((width + 7) / 8, options).unsqueeze(0);
  const at::Tensor sequence = keys.sequence.bitwise_and(int64_t{0xffffffff}).unsqueeze(1);
  const at::Tensor position = keys.position.to(at::kLong).unsqueeze(1) + (int64_t{dropout.site} << 16);
  const at::Tensor draws = reference::philox_draws(blocks, sequence, position, dropout).flatten(1).narrow(1, 0, width);
  return draws.ge(static_cast<int64_t>(dropout.threshold())).to(at::kByte);
}

at::Tensor apply_dropout(const at::Tensor& x, const TokenKeys& keys, const Dropout& dropout) {
  if (!dropout.active()) return x;
  VIXEN_CHECK(x.dim() == 2 && x.size(0) == keys.sequence.size(0), "x has {} rows, the keys {}", x.size(0),
              keys.sequence.size(0));
  const auto kernel = fused_kernel(kernel::dropout, x);
  if (!kernel) return reference::apply_dropout(x, keys, dropout);
  const at::Tensor input = x.contiguous();
  at::Tensor y = at::empty_like(input);
  const DropoutArgs args{.storage = storage_of(x.scalar_type()),
                         .width = x.size(1),
                         .x = input.const_data_ptr(),
                         .y = y.mutable_data_ptr(),
                         .keys = row_keys(keys, dropout),
                         .dropout = dropout_key(dropout)};
  kernel.run(args, x.size(0), 16);
  return y;
}

}  // namespace vixen
