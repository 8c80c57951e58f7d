// Times each kernel and its reference on random activations.
#include "bench/kernel_bench.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "bench/timing.hpp"
#include "kernels/activation.hpp"
#include "kernels/embedding.hpp"
#include "kernels/head_norm.hpp"
#include "kernels/norm.hpp"
#include "kernels/packed_attention.hpp"
#include "kernels/packed_sequences.hpp"
#include "kernels/pooling.hpp"
#include "kernels/reference.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"

namespace vixen {
namespace {

/// Sequences of 3 to 7 positions, five on average.
at::Tensor short_offsets(int64_t positions) {
  std::vector<int32_t> offsets{0};
  for (int64_t i = 0; offsets.back() < positions; ++i)
    offsets.push_back(static_cast<int32_t>(std::min<int64_t>(positions, offsets.back() + 3 + (i * 3) % 5)));
  return at::tensor(offsets, at::kInt);
}

/// Sequences of `length` positions, the last one perhaps shorter.
at::Tensor even_offsets(int64_t positions, int64_t length) {
  std::vector<int32_t> offsets{0};
  while (offsets.back() < positions)
    offsets.push_back(static_cast<int32_t>(std::min<int64_t>(positions, offsets.back() + length)));
  return at::tensor(offsets, at::kInt);
}

/// Collects timings of kernels whose traffic is counted in rows of row_bytes.
class Timings {
 public:
  Timings(at::Device device, double row_bytes) : device_(device), row_bytes_(row_bytes) {}
  void add(const char* name, double rows, const std::function<void()>& kernel, const std::function<void()>& reference) {
    constexpr int kRepeats = 9, kReferenceRepeats = 3;
    KernelTiming timing{name, shortest_us(device_, kRepeats, kernel), 0,
                        shortest_us(device_, kReferenceRepeats, reference)};
    timing.gb_per_s = rows * row_bytes_ / timing.microseconds * 1e-3;
    all_.push_back(timing);
  }
  const std::vector<KernelTiming>& all() const { return all_; }

 private:
  at::Device device_;
  double row_bytes_;
  std::vector<KernelTiming> all_;
};

double row_bytes(int64_t positions, int64_t width, at::ScalarType dtype) {
  return static_cast<double>(positions * width) * (dtype == at::kFloat ? 4 : 2);
}

/// What a decoder layer has between its matrix products; heads of width / heads columns.
void time_decoder_kernels(Timings& timings, at::Device device, int64_t positions, int64_t width, int64_t feed_forward,
                          int64_t heads, at::ScalarType dtype) {
  constexpr int64_t kLength = 64;
  const int64_t kv_heads = heads % 3 == 0 ? heads / 3 : heads, head_dim = width / heads;
  const int64_t qkv_width = width + 2 * kv_heads * head_dim;
  const auto share = [&](int64_t columns) { return static_cast<double>(columns) / static_cast<double>(width); };
  const auto there = at::TensorOptions().device(device);
  const auto random = [&](int64_t columns) { return at::randn({positions, columns}).to(dtype).to(device); };

  const at::Tensor host_offsets = even_offsets(positions, kLength), offsets = host_offsets.to(device);
  const at::Tensor sequence_keys = at::arange(offsets.size(0) - 1, at::kLong).to(device);
  const at::Tensor places = make_token_keys(offsets, sequence_keys, positions).position.to(at::kLong);
  SequenceGroups groups(host_offsets, sequence_keys);
  const AttentionShape attention{.heads = heads, .max_seqlen = kLength, .kv_heads = kv_heads, .causal = true};
  at::Tensor qkv = random(qkv_width);
  const at::Tensor grad_context = random(width);
  const AttentionResult attended = packed_attention(qkv, offsets, sequence_keys, attention, {}, groups);
  timings.add(
      "causal attention forward", share(qkv_width + width),
      [&] { packed_attention(qkv, offsets, sequence_keys, attention, {}, groups); },
      [&] { reference::packed_attention(qkv, attention, {}, groups); });
  timings.add(
      "causal attention backward", share(2 * qkv_width + width),
      [&] { packed_attention_backward(grad_context, qkv, attended, offsets, sequence_keys, attention, {}, groups); },
      [&] { reference::packed_attention_backward(grad_context, qkv, attended, attention, {}, groups); });

  // A rotation keeps lengths: qkv may be turned over and over.
  const at::Tensor angles = at::randn({kLength, head_dim / 2});
  const at::Tensor table = at::cat({angles.cos(), angles.sin()}, 1).to(device);
  timings.add(
      "rotary positions", 2 * share(width + kv_heads * head_dim),
      [&] { apply_rope(qkv, places, table, attention, false); },
      [&] { reference::apply_rope(qkv, places, table, attention, false); });

  const at::Tensor head_weight = at::ones({head_dim}, there), grad_qkv = random(qkv_width);
  at::Tensor grad_head_weight = at::zeros({head_dim}, there);
  const HeadNormResult normed_heads = head_norm(qkv, head_weight, head_weight, 1e-6, attention);
  timings.add(
      "head norm forward", 2 * share(qkv_width), [&] { head_norm(qkv, head_weight, head_weight, 1e-6, attention); },
      [&] { reference::head_norm(qkv, head_weight, head_weight, 1e-6, attention); });
  timings.add(
      "head norm backward", 3 * share(qkv_width),
      [&] {
        head_norm_backward(grad_qkv, qkv, normed_heads.rstd, head_weight, head_weight, attention, grad_head_weight,
                           grad_head_weight);
      },
      [&] {
        reference::head_norm_backward(grad_qkv, qkv, normed_heads.rstd, head_weight, head_weight, attention,
                                      grad_head_weight, grad_head_weight);
      });

  const at::Tensor x = random(width), residual = random(width), grad = random(width), along = random(width);
  const at::Tensor weight = at::ones({width}, there);
  at::Tensor grad_weight = at::zeros({width}, there);
  const RmsNormResult normed = add_rms_norm(x, residual, weight, 1e-5);
  timings.add(
      "RMS norm forward", 4, [&] { add_rms_norm(x, residual, weight, 1e-5); },
      [&] { reference::add_rms_norm(x, residual, weight, 1e-5); });
  timings.add(
      "RMS norm backward", 4, [&] { add_rms_norm_backward(grad, along, normed.sum, normed.rstd, weight, grad_weight); },
      [&] { reference::add_rms_norm_backward(grad, along, normed.sum, normed.rstd, weight, grad_weight); });
  timings.add(
      "RMS norm again", 2, [&] { rms_norm_again(normed.sum, normed.rstd, weight); },
      [&] { reference::rms_norm_again(normed.sum, normed.rstd, weight); });

  const at::Tensor gate_up = random(2 * feed_forward), wide_grad = random(feed_forward);
  timings.add(
      "SwiGLU forward", share(3 * feed_forward), [&] { vixen::swiglu(gate_up); }, [&] { reference::swiglu(gate_up); });
  timings.add(
      "SwiGLU backward", share(5 * feed_forward), [&] { vixen::swiglu_backward(wide_grad, gate_up); },
      [&] { reference::swiglu_backward(wide_grad, gate_up); });

  constexpr int64_t kVocabulary = 49152;
  const at::Tensor tokens = at::randint(kVocabulary, {positions}, at::kLong).to(device);
  const at::Tensor word = at::randn({kVocabulary, width}).to(dtype).to(device);
  timings.add(
      "token embedding", 2, [&] { vixen::embed_tokens(tokens, word, {}, {}, dtype); },
      [&] { reference::embed_tokens(tokens, word, {}, {}, dtype); });
}

}  // namespace

std::vector<KernelTiming> bench_kernels(at::Device device, int64_t positions, int64_t width, int64_t feed_forward,
                                        int64_t heads, at::ScalarType dtype) {
  Timings timings(device, row_bytes(positions, width, dtype));
  const auto add = [&](const char* name, double rows, const std::function<void()>& kernel,
                       const std::function<void()>& reference) { timings.add(name, rows, kernel, reference); };

  const Dropout dropout{.p = 0.1, .seed = 1, .step = 1, .site = 1};
  const auto there = at::TensorOptions().device(device);
  const at::Tensor host_offsets = short_offsets(positions), offsets = host_offsets.to(device);
  const at::Tensor sequence_keys = at::arange(offsets.size(0) - 1, at::kLong).to(device);
  const TokenKeys keys = make_token_keys(offsets, sequence_keys, positions);
  SequenceGroups groups(host_offsets, sequence_keys);
  const AttentionShape shape{heads, 7};
  const auto random = [&](int64_t columns) { return at::randn({positions, columns}).to(dtype).to(device); };

  const at::Tensor qkv = random(3 * width), x = random(width), grad = random(width), residual = random(width);
  const at::Tensor wide = random(feed_forward), wide_grad = random(feed_forward);
  const at::Tensor weight = at::ones({width}, there), bias = at::zeros({width}, there);
  at::Tensor grad_weight = at::zeros({width}, there), grad_bias = at::zeros({width}, there),
             wide_bias = at::zeros({feed_forward}, there);
  const double ratio = static_cast<double>(feed_forward) / static_cast<double>(width);

  const AttentionResult attended = packed_attention(qkv, offsets, sequence_keys, shape, dropout, groups);
  add(
      "attention forward", 4, [&] { packed_attention(qkv, offsets, sequence_keys, shape, dropout, groups); },
      [&] { reference::packed_attention(qkv, shape, dropout, groups); });
  add(
      "attention backward", 7,
      [&] { packed_attention_backward(grad, qkv, attended, offsets, sequence_keys, shape, dropout, groups); },
      [&] { reference::packed_attention_backward(grad, qkv, attended, shape, dropout, groups); });
  const NormResult normed = dropout_add_norm(x, residual, weight, bias, 1e-12, keys, dropout);
  add(
      "norm forward", 4, [&] { dropout_add_norm(x, residual, weight, bias, 1e-12, keys, dropout); },
      [&] { reference::dropout_add_norm(x, residual, weight, bias, 1e-12, keys, dropout); });
  add(
      "norm backward", 4,
      [&] { dropout_add_norm_backward(grad, normed, weight, keys, dropout, grad_weight, grad_bias); },
      [&] { reference::dropout_add_norm_backward(grad, normed, weight, keys, dropout, grad_weight, grad_bias); });
  add(
      "gelu forward", 2 * ratio, [&] { vixen::gelu(wide); }, [&] { reference::gelu(wide); });
  add(
      "gelu backward", 3 * ratio, [&] { vixen::gelu_backward(wide_grad, wide); },
      [&] { reference::gelu_backward(wide_grad, wide); });
  add(
      "bias gradient, D", 1, [&] { accumulate_bias_gradient(grad, grad_bias); },
      [&] { reference::accumulate_bias_gradient(grad, grad_bias); });
  add(
      "bias gradient, F", ratio, [&] { accumulate_bias_gradient(wide_grad, wide_bias); },
      [&] { reference::accumulate_bias_gradient(wide_grad, wide_bias); });
  add(
      "dropout", 2, [&] { vixen::apply_dropout(x, keys, dropout); },
      [&] { reference::apply_dropout(x, keys, dropout); });
  const at::Tensor pooled = vixen::mean_pool(x, offsets);
  add(
      "mean pool forward", 1, [&] { vixen::mean_pool(x, offsets); }, [&] { reference::mean_pool(x, offsets); });
  add(
      "mean pool backward", 1, [&] { vixen::mean_pool_backward(pooled, offsets, positions, dtype); },
      [&] { reference::mean_pool_backward(pooled, offsets, positions, dtype); });

  constexpr int64_t kVocabulary = 30522;
  const at::Tensor tokens = at::randint(kVocabulary, {positions}, at::kLong).to(device),
                   places = keys.position.to(at::kLong);
  const at::Tensor word = at::randn({kVocabulary, width}).to(device), place_table = at::randn({16, width}).to(device);
  at::Tensor grad_word = at::zeros_like(word), grad_place = at::zeros_like(place_table);
  add(
      "embedding forward", 1, [&] { vixen::embed_positions(tokens, places, word, place_table, bias, {}, {}, dtype); },
      [&] { reference::embed_positions(tokens, places, word, place_table, bias, {}, {}, dtype); });
  add(
      "embedding backward", 1,
      [&] { vixen::embed_positions_backward(grad, tokens, places, {}, grad_word, grad_place, grad_bias); },
      [&] { reference::embed_positions_backward(grad, tokens, places, {}, grad_word, grad_place, grad_bias); });
  time_decoder_kernels(timings, device, positions, width, feed_forward, heads, dtype);
  return timings.all();
}

}  // namespace vixen
