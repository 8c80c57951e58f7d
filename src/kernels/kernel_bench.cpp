// Times each kernel and its reference on random activations.
#include "kernels/kernel_bench.hpp"

#include <algorithm>
#include <chrono>

#include "kernels/activation.hpp"
#include "kernels/embedding.hpp"
#include "kernels/norm.hpp"
#include "kernels/packed_attention.hpp"
#include "kernels/pooling.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

/// Shortest time of f in microseconds, of `repeats` runs after one to warm up: what others on the machine add is not
/// ours.
double shortest_us(int repeats, const std::function<void()>& f) {
  f();
  double shortest = 1e300;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    shortest = std::min(shortest, time.count());
  }
  return shortest;
}

/// Sequences of 3 to 7 positions, five on average.
at::Tensor short_offsets(int64_t positions) {
  std::vector<int32_t> offsets{0};
  for (int64_t i = 0; offsets.back() < positions; ++i)
    offsets.push_back(static_cast<int32_t>(std::min<int64_t>(positions, offsets.back() + 3 + (i * 3) % 5)));
  return at::tensor(offsets, at::kInt);
}

}  // namespace

std::vector<KernelTiming> bench_kernels(int64_t positions, int64_t width, int64_t feed_forward, int64_t heads,
                                        at::ScalarType dtype) {
  constexpr int kRepeats = 9, kReferenceRepeats = 3;
  std::vector<KernelTiming> timings;
  const double row_bytes = static_cast<double>(positions * width) * (dtype == at::kFloat ? 4 : 2);
  const auto add = [&](const char* name, double rows, const std::function<void()>& kernel,
                       const std::function<void()>& reference) {
    KernelTiming timing{name, shortest_us(kRepeats, kernel), 0, shortest_us(kReferenceRepeats, reference)};
    timing.gb_per_s = rows * row_bytes / timing.microseconds * 1e-3;
    timings.push_back(timing);
  };

  const Dropout dropout{.p = 0.1, .seed = 1, .step = 1, .site = 1};
  const at::Tensor offsets = short_offsets(positions);
  const at::Tensor sequence_keys = at::arange(offsets.size(0) - 1, at::kLong);
  const TokenKeys keys = make_token_keys(offsets, sequence_keys);
  const AttentionShape shape{heads, 7};
  const auto random = [&](int64_t columns) { return at::randn({positions, columns}).to(dtype); };

  const at::Tensor qkv = random(3 * width), x = random(width), grad = random(width), residual = random(width);
  const at::Tensor wide = random(feed_forward), wide_grad = random(feed_forward);
  const at::Tensor weight = at::ones({width}), bias = at::zeros({width});
  at::Tensor grad_weight = at::zeros({width}), grad_bias = at::zeros({width}), wide_bias = at::zeros({feed_forward});
  const double ratio = static_cast<double>(feed_forward) / static_cast<double>(width);

  const AttentionResult attended = packed_attention(qkv, offsets, sequence_keys, shape, dropout);
  add(
      "attention forward", 4, [&] { packed_attention(qkv, offsets, sequence_keys, shape, dropout); },
      [&] { reference::packed_attention(qkv, offsets, sequence_keys, shape, dropout); });
  add(
      "attention backward", 7,
      [&] { packed_attention_backward(grad, qkv, attended, offsets, sequence_keys, shape, dropout); },
      [&] { reference::packed_attention_backward(grad, qkv, attended, offsets, sequence_keys, shape, dropout); });
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
  const at::Tensor tokens = at::randint(kVocabulary, {positions}, at::kLong), places = keys.position.to(at::kLong);
  const at::Tensor word = at::randn({kVocabulary, width}), place_table = at::randn({16, width});
  at::Tensor grad_word = at::zeros_like(word), grad_place = at::zeros_like(place_table);
  add(
      "embedding forward", 1, [&] { vixen::embed_positions(tokens, places, word, place_table, bias, {}, {}, dtype); },
      [&] { reference::embed_positions(tokens, places, word, place_table, bias, {}, {}, dtype); });
  add(
      "embedding backward", 1,
      [&] { vixen::embed_positions_backward(grad, tokens, places, {}, grad_word, grad_place, grad_bias); },
      [&] { reference::embed_positions_backward(grad, tokens, places, {}, grad_word, grad_place, grad_bias); });
  return timings;
}

}  // namespace vixen
