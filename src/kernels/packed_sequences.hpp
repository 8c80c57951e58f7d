// What the host knows of the sequences of a packed batch, so that nothing has to wait for a device that holds them:
// lengths, for attention in batched products over sequences of one length, and how many positions there are.
//   T positions, n sequences, G of a group, L positions each
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/dropout.hpp"
#include "kernels/packed_attention.hpp"

namespace vixen {

/// Scores of one product, so that long sequences do not need memory of the order of the whole batch.
inline constexpr int64_t kMaxGroupScores = int64_t{1} << 24;

struct SequenceGroup {
  int64_t length = 0;        // L
  at::Tensor rows;           // int64 [G * L]: positions of its sequences
  at::Tensor sequence_keys;  // int64 [G]
  int64_t count() const { return sequence_keys.size(0); }
};

/// Groups of a batch, found when they are first asked for and kept for the other layers of the pass. One thread at a
/// time.
class SequenceGroups {
 public:
  /// host_offsets int32 [n+1] on the host, where lengths are compared; sequence_keys int64 [n] on the device of
  /// attention, which the groups' tensors will be on. The host does not wait for it.
  SequenceGroups(at::Tensor host_offsets, at::Tensor sequence_keys);

  /// Groups small enough that the scores of `heads` heads stay within kMaxGroupScores, shortest first.
  const std::vector<SequenceGroup>& of(int64_t heads);

 private:
  at::Tensor host_offsets_, sequence_keys_;
  int64_t heads_ = 0;  // that groups_ are for; 0: none were asked for
  std::vector<SequenceGroup> groups_;
};

/// Token keys of a batch whose number of positions is known (kernels/dropout.hpp).
TokenKeys make_token_keys(const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys, int64_t positions);

/// Attention of sequences whose groups are known (kernels/packed_attention.hpp); the reference alone looks at them.
AttentionResult packed_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens, const at::Tensor& sequence_keys,
                                 const AttentionShape& shape, const Dropout& dropout, SequenceGroups& groups);
at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const at::Tensor& cu_seqlens,
                                     const at::Tensor& sequence_keys, const AttentionShape& shape,
                                     const Dropout& dropout, SequenceGroups& groups);

namespace reference {

AttentionResult packed_attention(const at::Tensor& qkv, const AttentionShape& shape, const Dropout& dropout,
                                 SequenceGroups& groups);
at::Tensor packed_attention_backward(const at::Tensor& grad_context, const at::Tensor& qkv,
                                     const AttentionResult& forward, const AttentionShape& shape,
                                     const Dropout& dropout, SequenceGroups& groups);

}  // namespace reference
}  // namespace vixen
