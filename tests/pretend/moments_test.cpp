// What reference kernels hold for a moment (kernels/moments.hpp) against the bytes that are counted on the device.
#include "kernels/moments.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "doctor/kernel_comparisons.hpp"
#include "kernels/cuda_forms.hpp"
#include "kernels/cuda_kernels.hpp"
#include "kernels/head_norm.hpp"
#include "kernels/norm.hpp"
#include "kernels/packed_sequences.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"
#include "pretend/attention_cases.hpp"
#include "pretend/pretend_device.hpp"
#include "pretend/reference_kernels.hpp"

namespace vixen::pretend {
namespace {

class PretendMomentsTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    device();
    use_reference_kernels();
  }
  at::Tensor rows(at::IntArrayRef sizes) const { return at::ones(sizes, at::dtype(GetParam()).device(device())); }
  static at::Tensor floats(at::IntArrayRef sizes) { return at::ones(sizes, at::dtype(at::kFloat).device(device())); }

  // The most that `run` holds beside its results.
  template <class Run>
  static void expect_moment(const char* what, int64_t planned, const Run& run) {
    run();  // what is made once
    reset_peak_bytes();
    [[maybe_unused]] const auto results = run();
    const auto counted = static_cast<double>(peak_bytes() - bytes());
    EXPECT_NEAR(static_cast<double>(planned), counted, 0.05 * counted) << what;
  }

  static constexpr int64_t kSequences = 48, kWidth = 96, kFeedForward = 160, kHeadDim = AttentionCase::kHeadDim;
  KernelMoments moments_{false, GetParam()};
};

TEST_P(PretendMomentsTest, NormsAndDropout) {
  const int64_t length = 16, positions = kSequences * length;
  const auto offsets = at::arange(0, positions + 1, length, at::dtype(at::kInt).device(device()));
  const auto keys = make_token_keys(offsets, at::arange(kSequences, at::dtype(at::kLong).device(device())), positions);
  const auto x = rows({positions, kWidth}), residual = rows({positions, kWidth});
  const auto weight = floats({kWidth}), bias = floats({kWidth});
  for (const bool drops : {false, true}) {
    const Dropout dropout{.p = drops ? 0.1 : 0.0, .seed = 1, .step = 1, .site = 1};
    const auto forward = [&] { return dropout_add_norm(x, residual, weight, bias, 1e-6, keys, dropout); };
    expect_moment("norm", moments_.norm(positions, kWidth, drops), forward);
    const auto kept = forward();
    expect_moment("norm backward", moments_.norm_backward(positions, kWidth, drops), [&] {
      return dropout_add_norm_backward(x, kept, weight, keys, dropout, floats({kWidth}), floats({kWidth}));
    });
    if (drops)
      expect_moment("dropout", moments_.dropout(positions, kWidth), [&] { return apply_dropout(x, keys, dropout); });
  }
  expect_moment("rms norm", moments_.rms_norm(positions, kWidth),
                [&] { return add_rms_norm(x, residual, weight, 1e-6); });
  const auto kept = add_rms_norm(x, residual, weight, 1e-6);
  expect_moment("rms norm again", moments_.rms_norm_again(positions, kWidth),
                [&] { return rms_norm_again(kept.sum, kept.rstd, weight); });
  expect_moment("rms norm backward", moments_.rms_norm_backward(positions, kWidth),
                [&] { return add_rms_norm_backward(x, residual, kept.sum, kept.rstd, weight, {}); });
}

TEST_P(PretendMomentsTest, ActivationsAndHeads) {
  const int64_t positions = 1024;
  const auto gate_up = rows({positions, 2 * kFeedForward}), grad = rows({positions, kFeedForward});
  expect_moment("swiglu", moments_.swiglu(positions, kFeedForward), [&] { return swiglu(gate_up); });
  expect_moment("swiglu backward", moments_.swiglu_backward(positions, kFeedForward),
                [&] { return swiglu_backward(grad, gate_up); });
  const AttentionShape shape{.heads = 4, .max_seqlen = 16, .kv_heads = 2};
  auto qkv = rows({positions, 8 * kHeadDim});
  const auto places = at::arange(positions, at::dtype(at::kLong).device(device())).remainder(16);
  const auto table = floats({16, kHeadDim}), weight = floats({kHeadDim});
  expect_moment("rope", moments_.rope(positions, kHeadDim, shape), [&] {
    apply_rope(qkv, places, table, shape, /*inverse=*/true);
    return 0;
  });
  expect_moment("head norm", moments_.head_norm(positions, kHeadDim, shape),
                [&] { return head_norm(qkv, weight, weight, 1e-6, shape); });
  const auto kept = head_norm(qkv, weight, weight, 1e-6, shape);
  expect_moment("head norm backward", moments_.head_norm_backward(positions, kHeadDim, shape),
                [&] { return head_norm_backward(qkv, qkv, kept.rstd, weight, weight, shape, {}, {}); });
}

TEST_P(PretendMomentsTest, Attention) {
  for_attention_cases(GetParam(), {3, 16, 40, 128}, [&](AttentionCase& of) {
    expect_moment("attention", moments_.attention(of.positions, of.squares, kHeadDim, of.shape, of.drops),
                  [&] { return of.forward(); });
    const auto kept = of.forward();
    expect_moment("attention backward",
                  moments_.attention_backward(of.positions, of.squares, kHeadDim, of.shape, of.drops),
                  [&] { return of.backward(kept); });
  });
}

INSTANTIATE_TEST_SUITE_P(Dtypes, PretendMomentsTest, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& tested) { return std::string(c10::toString(tested.param)); });

TEST(KernelMoments, CudaFormsAreThoseOfTheTable) {
  const auto rows = kernel_row_facts();
  const auto on_cuda = [](const RowFacts& row) { return row.on_cuda(cuda_kernels()); };
  if (std::none_of(rows.begin(), rows.end(), on_cuda)) GTEST_SKIP() << "a build without CUDA";
  for (const auto& row : rows) EXPECT_EQ(has_cuda_form(row.name), on_cuda(row)) << row.name;
}

// By the list of CUDA forms, on any build: the reference where a form does not take what it is given.
TEST(KernelMoments, OnAGpuFormsHoldNothingWithinTheirLimits) {
  set_kernel_choices({});
  const KernelMoments floats(false, at::kFloat), bfloats(false, at::kBFloat16);
  const auto attention = [](const KernelMoments& moments, int64_t longest, bool drops) {
    return moments.attention_backward(1000, 20000, 64, {.heads = 4, .max_seqlen = longest}, drops);
  };
  EXPECT_EQ(attention(floats, 256, true), 0);
  EXPECT_GT(attention(floats, 257, true), 0);
  EXPECT_EQ(attention(bfloats, 256, true), 0);
  EXPECT_EQ(attention(bfloats, 64, false), 0);
  EXPECT_GT(attention(bfloats, 65, false), 0) << "flash attention";
  EXPECT_EQ(floats.rms_norm_backward(10, 13800), 0);
  EXPECT_GT(floats.rms_norm_backward(10, 13900), 0);
  EXPECT_EQ(floats.norm_backward(10, 10400, true), 0);
  EXPECT_GT(floats.norm_backward(10, 10500, true), 0);
  EXPECT_EQ(floats.norm(10, 41600, true), 0);
  EXPECT_GT(floats.norm(10, 41700, true), 0);
  EXPECT_GT(floats.rms_norm_again(10, 41700), 0);
}

TEST(KernelMoments, OnACpuNothingIsHeld) {
  const KernelMoments moments(true, at::kFloat);
  EXPECT_EQ(moments.swiglu_backward(100, 10), 0);
  EXPECT_EQ(moments.attention_backward(100, 1000, 8, {.heads = 4}, true), 0);
}

}  // namespace
}  // namespace vixen::pretend
