// What reference kernels read and write (kernels/traffic.hpp) against the bytes that are counted on the device; of
// fused forms emulated_step.cpp.
#include "kernels/traffic.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/activation.hpp"
#include "kernels/embedding.hpp"
#include "kernels/head_norm.hpp"
#include "kernels/norm.hpp"
#include "kernels/packed_sequences.hpp"
#include "kernels/pooling.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"
#include "pretend/attention_cases.hpp"
#include "pretend/pretend_device.hpp"
#include "pretend/reference_kernels.hpp"

namespace vixen::pretend {
namespace {

class PretendTrafficTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    device();
    use_reference_kernels();
  }
  at::Tensor rows(at::IntArrayRef sizes) const { return at::ones(sizes, at::dtype(GetParam()).device(device())); }
  static at::Tensor floats(at::IntArrayRef sizes) { return at::ones(sizes, at::dtype(at::kFloat).device(device())); }
  static at::Tensor zeros(int64_t count) { return at::zeros({count}, at::dtype(at::kLong).device(device())); }

  template <class Run>
  static void expect_traffic(const char* what, int64_t planned, const Run& run, double tolerance = 0.05) {
    run();  // what is made once
    const auto before = counts();
    run();
    const auto after = counts();
    const auto counted =
        static_cast<double>(after.moved_bytes - before.moved_bytes + after.product_bytes - before.product_bytes);
    EXPECT_GT(counted, 0) << what;
    EXPECT_NEAR(static_cast<double>(planned), counted, tolerance * counted) << what;
  }

  static constexpr int64_t kSequences = AttentionCase::kSequences, kLength = 16, kPositions = kSequences * kLength;
  static constexpr int64_t kWidth = 256, kFeedForward = 320, kHeadDim = AttentionCase::kHeadDim;
  KernelTraffic traffic_{false, GetParam()};
};

TEST_P(PretendTrafficTest, NormsAndDropout) {
  const auto offsets = at::arange(0, kPositions + 1, kLength, at::dtype(at::kInt).device(device()));
  const auto keys = make_token_keys(offsets, at::arange(kSequences, at::dtype(at::kLong).device(device())), kPositions);
  const auto x = rows({kPositions, kWidth}), residual = rows({kPositions, kWidth});
  const auto weight = floats({kWidth}), bias = floats({kWidth});
  auto grad_weight = floats({kWidth}), grad_bias = floats({kWidth});
  for (const bool drops : {false, true}) {
    SCOPED_TRACE(drops);
    const Dropout dropout{.p = drops ? 0.1 : 0.0, .seed = 1, .step = 1, .site = 1};
    const auto forward = [&] { return dropout_add_norm(x, residual, weight, bias, 1e-6, keys, dropout); };
    expect_traffic("norm", traffic_.norm(kPositions, kWidth, true, drops), forward);
    expect_traffic("norm without residual", traffic_.norm(kPositions, kWidth, false, drops),
                   [&] { return dropout_add_norm(x, {}, weight, bias, 1e-6, keys, dropout); });
    const auto kept = forward();
    expect_traffic("norm backward", traffic_.norm_backward(kPositions, kWidth, drops),
                   [&] { return dropout_add_norm_backward(x, kept, weight, keys, dropout, grad_weight, grad_bias); });
    const auto behind = [&] { return norm_dropout(x, weight, bias, 1e-6, keys, dropout); };
    expect_traffic("norm and dropout", traffic_.norm_dropout(kPositions, kWidth, drops), behind);
    const auto kept_behind = behind();
    expect_traffic("norm and dropout backward", traffic_.norm_dropout_backward(kPositions, kWidth, drops), [&] {
      return norm_dropout_backward(x, kept_behind, weight, keys, dropout, grad_weight, grad_bias);
    });
    if (drops)
      expect_traffic("dropout", traffic_.dropout(kPositions, kWidth), [&] { return apply_dropout(x, keys, dropout); });
  }
  expect_traffic("rms norm", traffic_.rms_norm(kPositions, kWidth, true),
                 [&] { return add_rms_norm(x, residual, weight, 1e-6); });
  expect_traffic("rms norm without residual", traffic_.rms_norm(kPositions, kWidth, false),
                 [&] { return add_rms_norm(x, {}, weight, 1e-6); });
  const auto kept = add_rms_norm(x, residual, weight, 1e-6);
  expect_traffic("rms norm again", traffic_.rms_norm_again(kPositions, kWidth),
                 [&] { return rms_norm_again(kept.sum, kept.rstd, weight); });
  expect_traffic("rms norm backward", traffic_.rms_norm_backward(kPositions, kWidth),
                 [&] { return add_rms_norm_backward(x, residual, kept.sum, kept.rstd, weight, {}); });
}

TEST_P(PretendTrafficTest, ActivationsAndHeads) {
  const auto gate_up = rows({kPositions, 2 * kFeedForward}), x = rows({kPositions, kFeedForward});
  auto grad = rows({kPositions, kFeedForward}), bias = floats({kFeedForward});
  expect_traffic("gelu", traffic_.gelu(kPositions, kFeedForward), [&] { return vixen::gelu(x); });
  expect_traffic("gelu backward", traffic_.gelu_backward(kPositions, kFeedForward),
                 [&] { return vixen::gelu_backward(grad, x); });
  expect_traffic("column sums", traffic_.column_sums(kPositions, kFeedForward), [&] {
    accumulate_bias_gradient(x, bias);
    return 0;
  });
  expect_traffic("swiglu", traffic_.swiglu(kPositions, kFeedForward), [&] { return swiglu(gate_up); });
  expect_traffic("swiglu backward", traffic_.swiglu_backward_again(kPositions, kFeedForward),
                 [&] { return swiglu_backward_again(grad, gate_up); });
  const AttentionShape shape{.heads = 4, .max_seqlen = kLength, .kv_heads = 2};
  auto qkv = rows({kPositions, 8 * kHeadDim});
  const auto places = at::arange(kPositions, at::dtype(at::kLong).device(device())).remainder(kLength);
  const auto table = floats({kLength, kHeadDim}), weight = floats({kHeadDim});
  expect_traffic("rope", traffic_.rope(kPositions, kHeadDim, shape), [&] {
    apply_rope(qkv, places, table, shape, /*inverse=*/true);
    return 0;
  });
  expect_traffic("head norm", traffic_.head_norm(kPositions, kHeadDim, shape),
                 [&] { return head_norm(qkv, weight, weight, 1e-6, shape); });
  const auto kept = head_norm(qkv, weight, weight, 1e-6, shape);
  expect_traffic("head norm backward", traffic_.head_norm_backward(kPositions, kHeadDim, shape),
                 [&] { return head_norm_backward(qkv, qkv, kept.rstd, weight, weight, shape, {}, {}); });
}

// The device counts a table as one operand: of a table of as many rows as there are positions each is read once.
TEST_P(PretendTrafficTest, Ends) {
  const auto offsets = at::arange(0, kPositions + 1, kLength, at::dtype(at::kInt).device(device()));
  const auto x = rows({kPositions, kWidth});
  expect_traffic(
      "mean pool", traffic_.mean_pool(kPositions, kSequences, kWidth), [&] { return mean_pool(x, offsets); }, 0.15);
  const auto pooled = mean_pool(x, offsets);
  expect_traffic(
      "mean pool backward", traffic_.mean_pool_backward(kPositions, kSequences, kWidth),
      [&] { return mean_pool_backward(pooled, offsets, kPositions, GetParam()); }, 0.3);
  const auto ids = at::arange(kPositions, at::dtype(at::kLong).device(device()));
  const auto table = floats({kPositions, kWidth}), type = floats({kWidth}), none = floats({0, kWidth});
  expect_traffic(
      "embedding", traffic_.embed_positions(kPositions, kWidth, /*types=*/true),
      [&] { return embed_positions(ids, ids, table, table, type, none, zeros(0), GetParam()); }, 0.15);
  const auto word = rows({kPositions, kWidth});
  expect_traffic(
      "tokens", traffic_.embed_tokens(kPositions, kWidth, word.element_size()),
      [&] { return embed_tokens(ids, word, none, zeros(0), GetParam()); }, 0.15);
}

TEST_P(PretendTrafficTest, Attention) {
  for_attention_cases(GetParam(), {8, 16, 40, 128}, [&](AttentionCase& of) {
    expect_traffic("attention", traffic_.attention(of.positions, of.squares, kHeadDim, of.shape, of.drops),
                   [&] { return of.forward(); });
    const auto kept = of.forward();
    expect_traffic("attention backward",
                   traffic_.attention_backward(of.positions, kSequences, of.squares, kHeadDim, of.shape, of.drops),
                   [&] { return of.backward(kept); });
  });
}

INSTANTIATE_TEST_SUITE_P(Dtypes, PretendTrafficTest, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& tested) { return std::string(c10::toString(tested.param)); });

// On any build: flash attention's backward moves more than the kernel for short sequences.
TEST(KernelTraffic, FollowsTheFormThatRuns) {
  set_kernel_choices({});
  const KernelTraffic kernels(false, at::kBFloat16);
  const auto backward = [&](int64_t longest) {
    return kernels.attention_backward(1000, 50, 20000, 64, {.heads = 4, .max_seqlen = longest}, false);
  };
  EXPECT_EQ(backward(64), backward(20));
  EXPECT_GT(backward(65), backward(64));
  EXPECT_EQ(KernelTraffic(true, at::kFloat).swiglu(10, 8), 3 * 4 * 80);
}

}  // namespace
}  // namespace vixen::pretend
