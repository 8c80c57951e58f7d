// What the reference forms of kernels hold for a moment on a device, besides operands and results: for the memory plan.
// A fused form holds nothing; tests hold the numbers to what is counted (tests/pretend/moments_test.cpp).
//   T positions, D columns, F feed-forward columns; H heads and Hkv key-value heads of d columns
#pragma once

#include <cstdint>

#include "kernels/kernel_rows.hpp"
#include "kernels/packed_attention.hpp"

namespace vixen {

class KernelMoments {
 public:
  /// cpu: everything is 0, as all kernels are fused there. dtype: of activations, float32 or bfloat16. What runs on
  /// another device is as kernels.* and the list of CUDA forms say, in builds without CUDA too.
  KernelMoments(bool cpu, at::ScalarType dtype) : cpu_(cpu), dtype_(dtype) {}

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

 private:
  /// fits: whether the CUDA form has room for what it is given.
  template <class Args>
  bool is_reference(const KernelRow<Args>& row, bool fits = true) const;
  int64_t bytes(int64_t elements, int64_t in_float, int64_t in_bfloat16) const;
  AttentionForm attention_form_of(int64_t head_dim, const AttentionShape& shape, bool drops) const;

  bool cpu_;
  at::ScalarType dtype_;
};

}  // namespace vixen
