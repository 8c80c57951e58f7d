// Bytes that kernels read and write, each operand and result once, as they meet a device's memory: for the time plan.
// Of fused forms what the header comments of cuda/*.cu say (a cache holds weights, angles and keys); of references what
// their operators pass over. Tests hold the numbers to what is counted (tests/pretend).
//   T positions of n sequences, D columns, F feed-forward columns; H heads and Hkv key-value heads of d columns
#pragma once

#include <cstdint>

#include "kernels/planned_form.hpp"

namespace vixen {

class KernelTraffic : public PlannedForm {
 public:
  using PlannedForm::PlannedForm;

  /// Numbers of the compute dtype, read and written `passes` times in all.
  int64_t passes(int64_t elements, int64_t passes) const { return bytes(elements, 4 * passes, 2 * passes); }

  int64_t norm(int64_t positions, int64_t width, bool residual, bool drops) const;
  int64_t norm_backward(int64_t positions, int64_t width, bool drops) const;
  /// Dropout behind the norm: two passes forward, three backward, with dropout or without.
  int64_t norm_dropout(int64_t positions, int64_t width, bool drops) const;
  int64_t norm_dropout_backward(int64_t positions, int64_t width, bool drops) const;
  int64_t rms_norm(int64_t positions, int64_t width, bool residual) const;
  int64_t rms_norm_again(int64_t positions, int64_t width) const;
  int64_t rms_norm_backward(int64_t positions, int64_t width) const;  // with what comes along the residual
  int64_t dropout(int64_t positions, int64_t width) const;
  int64_t gelu(int64_t positions, int64_t feed_forward) const;
  int64_t gelu_backward(int64_t positions, int64_t feed_forward) const;
  int64_t column_sums(int64_t positions, int64_t width) const;
  int64_t swiglu(int64_t positions, int64_t feed_forward) const;
  int64_t swiglu_backward_again(int64_t positions, int64_t feed_forward) const;
  int64_t rope(int64_t positions, int64_t head_dim, const AttentionShape& shape) const;
  int64_t head_norm(int64_t positions, int64_t head_dim, const AttentionShape& shape) const;
  int64_t head_norm_backward(int64_t positions, int64_t head_dim, const AttentionShape& shape) const;
  int64_t mean_pool(int64_t positions, int64_t sequences, int64_t width) const;
  int64_t mean_pool_backward(int64_t positions, int64_t sequences, int64_t width) const;
  /// With position embeddings, and types where there are any.
  int64_t embed_positions(int64_t positions, int64_t width, bool types) const;
  /// word_bytes: of a number of the table.
  int64_t embed_tokens(int64_t positions, int64_t width, int64_t word_bytes) const;
  /// Gradients of rows added to those of a table that has at most as many.
  int64_t segment_sums(int64_t positions, int64_t width) const;

  /// As KernelMoments::attention; n sequences, for flash attention's padding. References' products are in it.
  int64_t attention(int64_t positions, int64_t sum_squared_lengths, int64_t head_dim, const AttentionShape& shape,
                    bool drops) const;
  int64_t attention_backward(int64_t positions, int64_t sequences, int64_t sum_squared_lengths, int64_t head_dim,
                             const AttentionShape& shape, bool drops) const;
  /// Whether attention's products are those of the kernel for short sequences, by float32 arithmetic outside of a GPU's
  /// matrix units; and how many FLOPs its backward takes for one of the forward (cuda/attention.cu).
  bool attention_on_cores(int64_t head_dim, const AttentionShape& shape, bool drops) const {
    return !is_cpu() && attention_form_of(head_dim, shape, drops) == AttentionForm::kFused;
  }
  static constexpr double kAttentionBackward = 14.0 / 4;

 private:
  /// Of sums over rows, by chunks: written, and read when they are added up.
  int64_t partial_sums(int64_t positions, int64_t columns) const;
};

}  // namespace vixen
