// Encoders with adapters over a frozen base, recomputed layers, inference without buffers, and merged folders.
#include <algorithm>
#include <cmath>
#include <map>

#include "fixtures/encoder_checks.hpp"
#include "fixtures/lora_encoder.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

using namespace testing;

constexpr int64_t kVocabulary = 89;

PackedBatch batch_of() {
  return tiny_batch({{1, 6, 1}, {2, 4, 0}, {3, 1, 2}, {4, 8, 0}}, kVocabulary);
}
at::Tensor direction_of(int64_t rows, int64_t width) {
  return wave({rows, width}, 0, 0.9);
}
const PassContext kTraining{.training = true, .seed = 3, .step = 8};

class LoraEncoderTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LoraEncoderTest, StartsAsTheBase) {
  auto options = lora_options(tiny_model(GetParam()), 4);
  LoraEncoder adapted(options);
  options.lora.rank = 0;
  LoraEncoder base(options);
  EXPECT_TRUE(adapted.embed(batch_of()).equal(base.embed(batch_of()))) << "B is zero";
  EXPECT_TRUE(adapted.embed(batch_of(), kTraining).equal(base.embed(batch_of(), kTraining)));
  for (int i = 0; i < adapted.store.count(); ++i) {
    const std::string& name = adapted.store.info(i).name;
    const bool ours = name.find("lora_") != std::string::npos || name.starts_with("image_projection");
    EXPECT_EQ(adapted.store.trained(i), ours) << name;
  }
}

TEST_P(LoraEncoderTest, GradientsWithDropoutByFiniteDifferences) {
  LoraEncoder lora(lora_options(tiny_model(GetParam()), 3, "q,v,o,up,down", /*dropout=*/0.2));
  lora.stir();
  expect_encoder_gradients(lora, batch_of(), kTraining, {.step = 4e-3, .relative = 5e-3});
}

// At the merged weights W' the gradients of B and A are s dW' A^T and s B^T dW'.
TEST_P(LoraEncoderTest, GradientsAreThoseOfTheMergedWeights) {
  LoraEncoder lora(lora_options(tiny_model(GetParam()), 3, "q,k,v,o,up,down"));
  lora.stir();
  const test::TempDir folder;
  lora.encoder->files().save_merged(folder.path(), at::kFloat, /*max_shard_bytes=*/20000);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "model.safetensors.index.json"));
  auto options = lora_options(folder.path(), 0);
  LoraEncoder full(options);
  const PackedBatch batch = batch_of();
  const at::Tensor h = lora.embed(batch, kTraining);
  EXPECT_LE(relative_difference(full.embed(batch, kTraining), h), 2e-6);

  const at::Tensor direction = direction_of(4, lora.encoder->width());
  lora.gradients(batch, direction, kTraining);
  full.gradients(batch, direction, kTraining);
  const double s = 5 / std::sqrt(3.0);
  int checked = 0;
  for (int i = 0; i < lora.store.count(); ++i) {
    const std::string name = lora.store.info(i).name;
    if (!name.ends_with(".lora_A.weight")) continue;
    const std::string module = name.substr(0, name.size() - 13);  // with its last dot
    const at::Tensor dw = full.store.grad(full.store.find(module + "weight")).to(at::kDouble);
    const at::Tensor a = lora.store.value(i).to(at::kDouble);
    // The Bs behind a stacked A follow it in the store, one for each block of three rows.
    const int64_t pieces = a.size(0) / 3, rows = dw.size(0) / pieces;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int b_index = i + 1 + static_cast<int>(piece);
      const at::Tensor b = lora.store.value(b_index).to(at::kDouble);
      const at::Tensor dwi = dw.narrow(0, piece * rows, rows), ai = a.narrow(0, piece * 3, 3);
      const at::Tensor db = s * at::mm(dwi, ai.t()), da = s * at::mm(b.t(), dwi);
      // Keys' biases shift all scores alike; their weights have a gradient all the same, a small one.
      EXPECT_LE(relative_difference(lora.store.grad(b_index), db), 2e-5) << lora.store.info(b_index).name;
      EXPECT_LE(relative_difference(lora.store.grad(i).narrow(0, piece * 3, 3), da), 2e-5) << name;
      ++checked;
    }
  }
  EXPECT_EQ(checked, 6 * static_cast<int>(lora.encoder->n_layers()));
}

// Layers that are computed again give the same gradients to the bit, dropout and all.
TEST_P(LoraEncoderTest, RecomputedLayersGiveTheSameGradients) {
  for (const int64_t rank : {0, 3})
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      LoraEncoder encoder(lora_options(tiny_model(GetParam()), rank, "q,k,v,o,up,down", 0.1), dtype);
      encoder.stir();
      const at::Tensor direction = direction_of(4, encoder.encoder->width());
      const at::Tensor kept = encoder.gradients(batch_of(), direction, kTraining);
      EXPECT_GT(kept.abs().max().item<float>(), 0);
      for (const int64_t layers : {1, 2, 100})
        EXPECT_TRUE(encoder.gradients(batch_of(), direction, kTraining, layers).equal(kept)) << layers;
    }
}

// Without pictures in the batch nothing below the first layer is asked for, and the adapters' gradients are the same.
TEST_P(LoraEncoderTest, TextAlone) {
  const auto batch = tiny_batch({{1, 6, 0}, {2, 4, 0}}, kVocabulary);
  LoraEncoder with(lora_options(tiny_model(GetParam()), 3)),
      without(lora_options(tiny_model(GetParam()), 3, "q,k,v,o,up,down", 0, /*image_width=*/0));
  with.stir();
  without.stir();
  const at::Tensor direction = direction_of(2, with.encoder->width());
  with.gradients(batch, direction, kTraining);
  without.gradients(batch, direction, kTraining);
  for (int i = 0; i < without.store.count(); ++i) {
    if (!without.store.trained(i)) continue;
    EXPECT_TRUE(without.store.grad(i).equal(with.store.grad(i))) << without.store.info(i).name;
  }
}

TEST_P(LoraEncoderTest, InferenceHasNoBuffers) {
  for (const int64_t rank : {0, 3}) {
    auto options = lora_options(tiny_model(GetParam()), rank);
    LoraEncoder trained(options);
    options.trainable = false;
    LoraEncoder frozen(options), rounded(options, at::kBFloat16);
    EXPECT_EQ(frozen.store.flat_values().numel(), 0);
    EXPECT_EQ(frozen.store.flat_grads().numel(), 0);
    const at::Tensor h = trained.embed(batch_of());
    EXPECT_TRUE(frozen.embed(batch_of()).equal(h));
    EXPECT_LE(relative_difference(rounded.embed(batch_of()), h), 0.05);
  }
}

TEST_P(LoraEncoderTest, CostsOfAdapters) {
  auto options = lora_options(tiny_model(GetParam()), 0);
  LoraEncoder full(options);
  options.lora.rank = 4;
  LoraEncoder lora(options);
  const double d = static_cast<double>(full.encoder->width()), n = static_cast<double>(full.encoder->n_layers());
  const auto& ff =
      full.store.info(full.store.find(std::string(GetParam()) == "tiny_bert" ? "encoder.layer.0.output.dense.weight"
                                                                             : "transformer.layer.0.ffn.lin2.weight"));
  const double f = static_cast<double>(ff.shape[1]);
  const double adapters = 2 * 4 * (3 * (d + d) + (d + d) + 2 * (d + f));
  EXPECT_DOUBLE_EQ(lora.encoder->costs().forward_flops(7, 0) - full.encoder->costs().forward_flops(7, 0),
                   7 * n * adapters);
  EXPECT_DOUBLE_EQ(full.encoder->costs().backward_flops(7, 9), 2 * full.encoder->costs().forward_flops(7, 9));
  EXPECT_DOUBLE_EQ(lora.encoder->costs().backward_flops(7, 0), 7 * n * (2 * (4 * d * d + 2 * d * f) + 2 * adapters));

  const BatchShape shape{.positions = 100, .sequences = 4, .images = 3, .sum_squared_lengths = 4000};
  const auto kept = full.encoder->costs().activation_bytes(shape),
             small = lora.encoder->costs().activation_bytes(shape);
  EXPECT_GE(static_cast<double>(kept.kept_a_layer), 100 * 4 * (8 * d + 2 * f));
  EXPECT_DOUBLE_EQ(static_cast<double>(kept.recomputed_a_layer), 100 * 4 * d);
  EXPECT_EQ(kept.kept_a_layer, small.kept_a_layer) << "in float32 nothing of the adapter is kept";
  LoraEncoder rounded(options, at::kBFloat16);
  EXPECT_LT(rounded.encoder->costs().activation_bytes(shape).kept_a_layer,
            kept.kept_a_layer * 6 / 10 + 100 * 2 * 6 * 4);
}

INSTANTIATE_TEST_SUITE_P(Unit, LoraEncoderTest, ::testing::Values("tiny_bert", "tiny_distilbert"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
