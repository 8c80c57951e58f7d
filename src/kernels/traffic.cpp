#include "kernels/traffic.hpp"

#include "kernels/dispatch.hpp"
#include "kernels/dropout.hpp"
#include "kernels/head_norm.hpp"
#include "kernels/norm.hpp"
#include "kernels/rms_norm.hpp"

namespace vixen {
namespace {

constexpr int64_t kFloat = 4;

}  // namespace

int64_t KernelTraffic::partial_sums(int64_t positions, int64_t columns) const {
  return 2 * kFloat * chunk_count(positions, is_cpu() ? at::kCPU : at::kCUDA) * columns;
}

int64_t KernelTraffic::norm(int64_t positions, int64_t width, bool residual, bool drops) const {
  const int64_t elements = positions * width;
  if (is_reference(kernel::norm_forward, norm_fits(dtype(), width)))
    return residual ? bytes(elements, drops ? 386 : 60, drops ? 408 : 82)
                    : bytes(elements, drops ? 374 : 48, drops ? 398 : 60);
  return passes(elements, residual ? 4 : 2 + (drops ? 1 : 0)) + norm_statistics_bytes(positions);
}

int64_t KernelTraffic::norm_backward(int64_t positions, int64_t width, bool drops) const {
  const int64_t elements = positions * width;
  if (is_reference(kernel::norm_backward, norm_backward_fits(dtype(), width)))
    return bytes(elements, drops ? 426 : 100, drops ? 450 : 118);
  return passes(elements, drops ? 4 : 3) + norm_statistics_bytes(positions) + partial_sums(positions, 2 * width);
}

int64_t KernelTraffic::norm_dropout(int64_t positions, int64_t width, bool drops) const {
  const int64_t elements = positions * width;
  if (is_reference(kernel::norm_forward, norm_fits(dtype(), width)))
    return bytes(elements, drops ? 374 : 48, drops ? 398 : 60);
  return passes(elements, 2) + norm_statistics_bytes(positions);
}

int64_t KernelTraffic::norm_dropout_backward(int64_t positions, int64_t width, bool drops) const {
  const int64_t elements = positions * width;
  if (is_reference(kernel::norm_backward, norm_backward_fits(dtype(), width)))
    return bytes(elements, drops ? 426 : 100, drops ? 444 : 118);
  return passes(elements, 3) + norm_statistics_bytes(positions) + partial_sums(positions, 2 * width);
}

int64_t KernelTraffic::rms_norm(int64_t positions, int64_t width, bool residual) const {
  const int64_t elements = positions * width;
  if (is_reference(kernel::rms_forward, norm_fits(dtype(), width)))
    return bytes(elements, residual ? 40 : 28, residual ? 76 : 46);
  return passes(elements, residual ? 4 : 2) + rms_norm_statistics_bytes(positions);
}

int64_t KernelTraffic::rms_norm_again(int64_t positions, int64_t width) const {
  const int64_t elements = positions * width;
  if (is_reference(kernel::rms_again, norm_fits(dtype(), width))) return bytes(elements, 16, 28);
  return passes(elements, 2) + rms_norm_statistics_bytes(positions);
}

int64_t KernelTraffic::rms_norm_backward(int64_t positions, int64_t width) const {
  const int64_t elements = positions * width;
  if (is_reference(kernel::rms_backward, rms_backward_fits(dtype(), width))) return bytes(elements, 72, 96);
  return passes(elements, 4) + rms_norm_statistics_bytes(positions);
}

int64_t KernelTraffic::dropout(int64_t positions, int64_t width) const {
  if (is_reference(kernel::dropout)) return bytes(positions * width, 326, 338);
  return passes(positions * width, 2) + token_key_bytes(positions);
}

// The reference is one operator too.
int64_t KernelTraffic::gelu(int64_t positions, int64_t feed_forward) const {
  return passes(positions * feed_forward, 2);
}

int64_t KernelTraffic::gelu_backward(int64_t positions, int64_t feed_forward) const {
  return passes(positions * feed_forward, 3);
}

int64_t KernelTraffic::column_sums(int64_t positions, int64_t width) const {
  return passes(positions * width, 1) + (is_reference(kernel::column_sums) ? 0 : partial_sums(positions, width));
}

int64_t KernelTraffic::swiglu(int64_t positions, int64_t feed_forward) const {
  const int64_t elements = positions * feed_forward;
  return is_reference(kernel::swiglu) ? bytes(elements, 20, 38) : passes(elements, 3);
}

int64_t KernelTraffic::swiglu_backward_again(int64_t positions, int64_t feed_forward) const {
  const int64_t elements = positions * feed_forward;
  return is_reference(kernel::swiglu_backward) ? bytes(elements, 136, 184) : passes(elements, 6);
}

int64_t KernelTraffic::rope(int64_t positions, int64_t head_dim, const AttentionShape& shape) const {
  const int64_t elements = positions * (shape.heads + shape.key_value_heads()) * head_dim;
  return is_reference(kernel::rope) ? bytes(elements, 46, 50) : passes(elements, 2);
}

int64_t KernelTraffic::head_norm(int64_t positions, int64_t head_dim, const AttentionShape& shape) const {
  const int64_t normed = positions * (shape.heads + shape.key_value_heads()) * head_dim;
  const int64_t values = passes(positions * shape.key_value_heads() * head_dim, 2);  // copied
  if (is_reference(kernel::head_norm)) return bytes(normed, 37, 45) + values;
  return passes(normed, 2) + values + head_norm_statistics_bytes(positions, shape);
}

int64_t KernelTraffic::head_norm_backward(int64_t positions, int64_t head_dim, const AttentionShape& shape) const {
  const int64_t normed = positions * (shape.heads + shape.key_value_heads()) * head_dim;
  const int64_t values = passes(positions * shape.key_value_heads() * head_dim, 2);
  if (is_reference(kernel::head_norm_backward)) return bytes(normed, 68, 82) + values;
  return passes(normed, 3) + values + head_norm_statistics_bytes(positions, shape);
}

int64_t KernelTraffic::mean_pool(int64_t positions, int64_t sequences, int64_t width) const {
  const int64_t read = is_reference(kernel::mean_pool) ? bytes(positions * width, 4, 10) : passes(positions * width, 1);
  return read + kFloat * sequences * width;
}

int64_t KernelTraffic::mean_pool_backward(int64_t positions, int64_t sequences, int64_t width) const {
  return passes(positions * width, 1) + kFloat * sequences * width;
}

int64_t KernelTraffic::embed_positions(int64_t positions, int64_t width, bool types) const {
  const int64_t elements = positions * width;
  const int64_t more = is_reference(kernel::embed_positions) ? bytes(elements, 20, 28) : 0;
  return kFloat * elements * (types ? 3 : 2) + passes(elements, 1) + more;
}

int64_t KernelTraffic::embed_tokens(int64_t positions, int64_t width, int64_t word_bytes) const {
  const int64_t elements = positions * width, more = is_reference(kernel::embed_tokens) ? bytes(elements, 0, 12) : 0;
  return elements * word_bytes + passes(elements, 1) + more;
}

int64_t KernelTraffic::segment_sums(int64_t positions, int64_t width) const {
  return passes(positions * width, 1) + 2 * kFloat * positions * width;
}

int64_t KernelTraffic::attention(int64_t positions, int64_t sum_squared_lengths, int64_t head_dim,
                                 const AttentionShape& shape, bool drops) const {
  const int64_t queries = positions * shape.heads * head_dim, keys = positions * shape.key_value_heads() * head_dim;
  if (attention_form_of(head_dim, shape, drops) == AttentionForm::kReference)
    return (drops ? 380 : 60) * shape.heads * sum_squared_lengths + 82 * queries + bytes(keys, 16, 20);
  return passes(2 * queries + 2 * keys, 1) + attention_statistics_bytes(positions, shape);
}

int64_t KernelTraffic::attention_backward(int64_t positions, int64_t sequences, int64_t sum_squared_lengths,
                                          int64_t head_dim, const AttentionShape& shape, bool drops) const {
  const int64_t queries = positions * shape.heads * head_dim, keys = positions * shape.key_value_heads() * head_dim;
  const AttentionForm form = attention_form_of(head_dim, shape, drops);
  if (form == AttentionForm::kReference)
    return (drops ? 416 : 84) * shape.heads * sum_squared_lengths + 170 * queries + 72 * keys;
  // q, k, v and the context's gradient read, three gradients written.
  const int64_t once = passes(3 * queries + 4 * keys, 1) + attention_statistics_bytes(positions, shape);
  if (form == AttentionForm::kFused) return once;
  // Flash attention besides: the context; the gradient of queries in float32 zeroed, added to and read, with every
  // sequence rounded up to its tiles; those of keys and values for every query head; all three put together.
  constexpr int64_t kTile = 128;
  const int64_t accumulated = 3 * kFloat * (positions + kTile * sequences) * shape.heads * head_dim;
  const int64_t repeated = shape.key_value_heads() == shape.heads ? 0 : passes(2 * queries, 2);
  return once + passes(queries, 1) + accumulated + repeated + passes(queries + 2 * keys, 2);
}

}  // namespace vixen
