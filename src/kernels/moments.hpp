// What the reference forms of kernels hold for a moment on a device, besides operands and results: for the memory plan.
// A fused form holds nothing; tests hold the numbers to what is counted (tests/pretend/moments_test.cpp).
//   T positions, D columns, F feed-forward columns; H heads and Hkv key-value heads of d columns
#pragma once

#include <cstdint>

#include "kernels/planned_form.hpp"

namespace vixen {

/// On a CPU everything is 0.
class KernelMoments : public PlannedForm {
 public:
  using PlannedForm::PlannedForm;

  int64_t norm(int64_t positions, int64_t width, bool drops) const;
  int64_t norm_backward(int64_t positions, int64_t width, bool drops) const;
  int64_t rms_norm(int64_t positions, int64_t width) const;
  int64_t rms_norm_again(int64_t positions, int64_t width) const;
  int64_t rms_norm_backward(int64_t positions, int64_t width) const;
  int64_t dropout(int64_t positions, int64_t width) const;
  int64_t swiglu(int64_t positions, int64_t feed_forward) const;
  int64_t swiglu_backward(int64_t positions, int64_t feed_forward) const;
  int64_t rope(int64_t positions, int64_t head_dim, const AttentionShape& shape) const;
  int64_t head_norm(int64_t positions, int64_t head_dim, const AttentionShape& shape) const;
  int64_t head_norm_backward(int64_t positions, int64_t head_dim, const AttentionShape& shape) const;

  /// sum_squared_lengths: of all sequences, which are taken to be alike: one product then holds them all, up to a limit
  /// (kernels/packed_sequences.hpp). shape.max_seqlen, the longest of any batch, decides the form: one of shorter
  /// sequences holds no more. Flash attention: what its backward widens and repeats, from its source.
  int64_t attention(int64_t positions, int64_t sum_squared_lengths, int64_t head_dim, const AttentionShape& shape,
                    bool drops) const;
  int64_t attention_backward(int64_t positions, int64_t sum_squared_lengths, int64_t head_dim,
                             const AttentionShape& shape, bool drops) const;
};

}  // namespace vixen
