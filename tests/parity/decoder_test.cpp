// Embeddings of decoders against transformers: tiny random Qwen2 (tied; untied and sharded), Llama with llama3 rope
// scaling, Qwen3, Mistral and SmolLM2-like Llama; pictures inside the prompt.
#include "parity/golden_decoder.hpp"

namespace vixen {
namespace {

using namespace testing;

class TinyDecoder : public GoldenEmbeddings {
 protected:
  bool has_adapter() const { return golden_.contains("adapter"); }
  EncoderOptions adapted() const { return golden_options(folder(), folder() / "adapter"); }
};

TEST_P(TinyDecoder, EmbedsAsTransformers) {
  EXPECT_LE(difference(options(), "float64"), kTolerance);
  EXPECT_LE(difference(options(), "float32"), kTolerance);
}

TEST_P(TinyDecoder, LastToken) {
  auto last = options();
  last.model.pooling = Pooling::kLastToken;
  EXPECT_LE(difference(last, "last"), kTolerance);
}

TEST_P(TinyDecoder, Bidirectional) {
  auto both = options();
  both.model.mask = Mask::kBidirectional;
  EXPECT_LE(difference(both, "bidirectional"), kTolerance);
  both.model.mask = Mask::kCausal;
  EXPECT_LE(difference(both, "float64"), kTolerance);
}

TEST_P(TinyDecoder, FirstLayerOnly) {
  auto cut = options();
  cut.model.layers = 1;
  EXPECT_LE(difference(cut, "first_layer"), kTolerance);
}

TEST_P(TinyDecoder, AdapterAsPeft) {
  if (!has_adapter()) return;  // tiny_qwen2_untied is there for its shards
  EXPECT_LE(difference(adapted(), "adapter"), kTolerance);
  const auto loaded = load_encoder(adapted());
  int trained = 0;
  for (int i = 0; i < loaded->store.count(); ++i) trained += loaded->store.trained(i) ? 1 : 0;
  EXPECT_GT(trained, 2) << "adapters and image projection";
  EXPECT_LT(trained, loaded->store.count()) << "the base is frozen";
}

TEST_P(TinyDecoder, InferenceChangesNothing) {
  auto frozen = has_adapter() ? adapted() : options();
  const at::Tensor trained = embed(frozen);
  frozen.trainable = false;
  const auto loaded = load_encoder(frozen);
  EXPECT_TRUE(loaded->embed(batch()).equal(trained));
  for (int i = 0; i < loaded->store.count(); ++i) EXPECT_FALSE(loaded->store.trained(i)) << loaded->store.info(i).name;
  EXPECT_EQ(loaded->store.flat_grads().numel(), 0);
}

TEST_P(TinyDecoder, Bfloat16IsClose) {
  auto half = options();
  half.model.compute = Compute::kBfloat16;
  const double difference = relative_difference(embed(half), golden_.tensor("float64"));
  RecordProperty("relative", std::to_string(difference));
  EXPECT_LE(difference, kBfloat16Tolerance);
  if (!has_adapter()) return;
  half.lora.adapter = adapted().lora.adapter;
  EXPECT_LE(relative_difference(embed(half), golden_.tensor("adapter")), kBfloat16Tolerance);
}

TEST_P(TinyDecoder, PackingDoesNotMatter) {
  EXPECT_LE(packing_difference(*load_encoder(options()), batch()), kPackingTolerance);
  auto both = options();
  both.model.mask = Mask::kBidirectional;
  EXPECT_LE(packing_difference(*load_encoder(both), batch()), kPackingTolerance);
}

// Rotary positions are relative: what compat.padded_positions moves apart counts, a common offset does not.
TEST_P(TinyDecoder, DistancesOfPositionsCount) {
  const auto loaded = load_encoder(options());
  PackedBatch moved = batch();
  moved.position_ids = moved.position_ids + 5;
  EXPECT_LE(max_difference(loaded->embed(moved), golden_.tensor("float64")), 2 * kTolerance);
  moved.position_ids = at::where(moved.position_ids > 8, moved.position_ids + 7, moved.position_ids);
  EXPECT_GT(max_difference(loaded->embed(moved), golden_.tensor("float64")), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Parity, TinyDecoder,
                         ::testing::Values("tiny_qwen2", "tiny_qwen2_untied", "tiny_llama3", "tiny_qwen3",
                                           "tiny_mistral", "tiny_smollm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
