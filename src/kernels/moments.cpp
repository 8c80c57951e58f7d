// Bytes an element, as the references' temporaries add up at their fullest point: float32 copies of bfloat16 operands,
// intermediate results, and what Philox draws the mask of dropout from.
#include "kernels/moments.hpp"

#include <algorithm>
#include <array>

#include "kernels/packed_sequences.hpp"

namespace vixen {
namespace {

constexpr int64_t kFloat = 4;

// Elements of the products of one group of sequences, all of which are alike.
struct Products {
  int64_t scores = 0;  // H L^2 of each sequence
  int64_t draws = 0;   // the same with L rounded up to whole blocks of eight
  int64_t queries = 0, keys = 0, statistics = 0;
  bool repeats = false;  // key-value heads for the query heads that share them
};

Products products(int64_t positions, int64_t sum_squared_lengths, int64_t head_dim, const AttentionShape& shape) {
  Products all;
  if (positions == 0) return all;
  const int64_t length = std::max<int64_t>(1, sum_squared_lengths / positions);
  all.repeats = shape.key_value_heads() != shape.heads;
  all.scores = shape.heads * sum_squared_lengths;
  all.draws = shape.heads * positions * ((length + 7) / 8 * 8);
  all.queries = positions * shape.heads * head_dim;
  all.keys = all.repeats ? positions * shape.key_value_heads() * head_dim : 0;
  all.statistics = positions * shape.heads;
  if (all.scores <= kMaxGroupScores) return all;
  const double part = static_cast<double>(kMaxGroupScores) / static_cast<double>(all.scores);
  for (int64_t* elements : {&all.scores, &all.draws, &all.queries, &all.keys, &all.statistics})
    *elements = static_cast<int64_t>(part * static_cast<double>(*elements));
  return all;
}

}  // namespace

int64_t KernelMoments::norm(int64_t positions, int64_t width, bool drops) const {
  if (!is_reference(kernel::norm_forward, norm_fits(dtype(), width))) return 0;
  return bytes(positions * width, drops ? 16 : 12, 24);
}

int64_t KernelMoments::norm_backward(int64_t positions, int64_t width, bool drops) const {
  if (!is_reference(kernel::norm_backward, norm_backward_fits(dtype(), width))) return 0;
  return drops ? bytes(positions * width, 20, 28) : bytes(positions * width, 24, 30);
}

int64_t KernelMoments::rms_norm(int64_t positions, int64_t width) const {
  return is_reference(kernel::rms_forward, norm_fits(dtype(), width)) ? bytes(positions * width, 4, 12) : 0;
}

int64_t KernelMoments::rms_norm_again(int64_t positions, int64_t width) const {
  return is_reference(kernel::rms_again, norm_fits(dtype(), width)) ? bytes(positions * width, 4, 12) : 0;
}

int64_t KernelMoments::rms_norm_backward(int64_t positions, int64_t width) const {
  if (!is_reference(kernel::rms_backward, rms_backward_fits(dtype(), width))) return 0;
  return bytes(positions * width, 20, 26);
}

int64_t KernelMoments::dropout(int64_t positions, int64_t width) const {
  return is_reference(kernel::dropout) ? bytes(positions * width, 20, 22) : 0;
}

int64_t KernelMoments::swiglu(int64_t positions, int64_t feed_forward) const {
  return is_reference(kernel::swiglu) ? bytes(positions * feed_forward, 4, 16) : 0;
}

int64_t KernelMoments::swiglu_backward(int64_t positions, int64_t feed_forward) const {
  if (!is_reference(kernel::swiglu_backward)) return 0;
  return bytes(positions * feed_forward, 20, 36);
}

int64_t KernelMoments::rope(int64_t positions, int64_t head_dim, const AttentionShape& shape) const {
  if (!is_reference(kernel::rope)) return 0;
  return bytes(positions * (shape.heads + shape.key_value_heads()) * head_dim, 17, 21);
}

int64_t KernelMoments::head_norm(int64_t positions, int64_t head_dim, const AttentionShape& shape) const {
  if (!is_reference(kernel::head_norm)) return 0;
  return bytes(positions * (shape.heads + shape.key_value_heads()) * head_dim, 8, 14);
}

int64_t KernelMoments::head_norm_backward(int64_t positions, int64_t head_dim, const AttentionShape& shape) const {
  if (!is_reference(kernel::head_norm_backward)) return 0;
  return bytes(positions * (shape.heads + shape.key_value_heads()) * head_dim, 24, 30);
}

int64_t KernelMoments::attention(int64_t positions, int64_t sum_squared_lengths, int64_t head_dim,
                                 const AttentionShape& shape, bool drops) const {
  if (attention_form_of(head_dim, shape, drops) != AttentionForm::kReference) return 0;
  const Products p = products(positions, sum_squared_lengths, head_dim, shape);
  const int64_t widened = bytes(p.queries, 20, 22), repeated = 8 * p.keys, lse = kFloat * p.statistics;
  // In the product of queries and keys, of probabilities and values, and where probabilities are made or dropped.
  return std::max({p.repeats ? 0 : 4 * p.scores + 24 * p.queries, 8 * p.scores + widened + repeated + lse,
                   12 * p.scores + (drops ? 20 * p.draws : 0) + 12 * p.queries + repeated + lse});
}

int64_t KernelMoments::attention_backward(int64_t positions, int64_t sum_squared_lengths, int64_t head_dim,
                                          const AttentionShape& shape, bool drops) const {
  const AttentionForm form = attention_form_of(head_dim, shape, drops);
  const Products p = products(positions, sum_squared_lengths, head_dim, shape);
  if (form == AttentionForm::kFlash) {
    // The gradient of the queries in float32, those of keys and values for every query head, and all three apart before
    // they become one matrix.
    const int64_t queries = positions * shape.heads * head_dim, keys = positions * shape.key_value_heads() * head_dim;
    return (kFloat + 2) * queries + 4 * keys + (p.repeats ? 4 * queries : 0);
  }
  if (form == AttentionForm::kFused) return 0;
  const int64_t widened = p.repeats ? 40 * p.queries + 24 * p.keys : bytes(p.queries, 48, 50);
  const int64_t statistics = 2 * kFloat * p.statistics;
  return std::max((drops ? 20 : 12) * p.scores + widened,
                  (drops ? 8 * p.scores + 20 * p.draws : 16 * p.scores) + 20 * p.queries + 8 * p.keys) +
         statistics;
}

}  // namespace vixen
