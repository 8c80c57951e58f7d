// Calls of attention by lengths, key-value heads and dropout, for tests that hold what is planned of them to what is
// counted.
#pragma once

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <initializer_list>

#include "kernels/packed_sequences.hpp"
#include "pretend/pretend_device.hpp"

namespace vixen::pretend {

/// Sequences of one length, four query heads.
struct AttentionCase {
  static constexpr int64_t kSequences = 48, kHeads = 4, kHeadDim = 32;

  AttentionCase(int64_t length, int64_t kv_heads, bool has_dropout, at::ScalarType dtype)
      : positions(kSequences * length),
        squares(positions * length),
        drops(has_dropout),
        shape{.heads = kHeads, .max_seqlen = length, .kv_heads = kv_heads, .causal = !drops},
        dropout_{.p = drops ? 0.1 : 0.0, .seed = 1, .step = 1, .site = 1},
        offsets_(at::arange(0, positions + 1, length, at::kInt)),
        device_offsets_(offsets_.to(device())),
        keys_(at::arange(kSequences, at::dtype(at::kLong).device(device()))),
        groups_(offsets_, keys_),
        qkv_(at::ones({positions, (kHeads + 2 * kv_heads) * kHeadDim}, at::dtype(dtype).device(device()))),
        grad_(at::ones({positions, kHeads * kHeadDim}, qkv_.options())) {}

  AttentionResult forward() { return packed_attention(qkv_, device_offsets_, keys_, shape, dropout_, groups_); }
  at::Tensor backward(const AttentionResult& kept) {
    return packed_attention_backward(grad_, qkv_, kept, device_offsets_, keys_, shape, dropout_, groups_);
  }

  int64_t positions, squares;
  bool drops;
  AttentionShape shape;

 private:
  Dropout dropout_;
  at::Tensor offsets_, device_offsets_, keys_;
  SequenceGroups groups_;
  at::Tensor qkv_, grad_;
};

/// check(case) for each.
template <class Check>
void for_attention_cases(at::ScalarType dtype, std::initializer_list<int64_t> lengths, const Check& check) {
  for (const int64_t length : lengths)
    for (const int64_t kv_heads : {4, 2, 1})
      for (const bool drops : {false, true}) {
        SCOPED_TRACE(fmt::format("length {}, {} key-value heads, dropout {}", length, kv_heads, drops));
        AttentionCase of(length, kv_heads, drops, dtype);
        check(of);
      }
}

}  // namespace vixen::pretend
