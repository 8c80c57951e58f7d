// Embeddings of decoders against transformers: tiny random Qwen2 (tied; untied and sharded), Llama with llama3 rope
// scaling, Qwen3, Mistral and SmolLM2-like Llama; pictures inside the prompt.
#include "parity/golden.hpp"

namespace vixen {
namespace {

using testing::golden_batch;
using testing::golden_path;
using testing::load_encoder;
using testing::max_difference;
using testing::packing_difference;
using testing::relative_difference;

constexpr double kTolerance = 5e-6;
constexpr double kPackingTolerance = 1e-6;
constexpr double kBfloat16Tolerance = 2e-2;
constexpr int64_t kImageWidth = 20;

EncoderOptions options_of(const std::filesystem::path& folder) {
  EncoderOptions options;
  options.model.path = folder.string();
  options.image_width = kImageWidth;
  return options;
}

class TinyDecoder : public ::testing::TestWithParam<const char*> {
 protected:
  TinyDecoder() : golden_(golden_path(std::string(GetParam()) + "_embeddings.safetensors")) {}

  EncoderOptions options() const { return options_of(golden_path(GetParam())); }
  at::Tensor embed(const EncoderOptions& options) const { return load_encoder(options)->embed(golden_batch(golden_)); }
  double difference(const EncoderOptions& options, const char* expected) {
    const double difference = max_difference(embed(options), golden_.tensor(expected));
    RecordProperty(expected, std::to_string(difference * 1e6) + "e-6");
    return difference;
  }
  bool has_adapter() const { return golden_.contains("adapter"); }

  SafetensorsFile golden_;
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
  auto adapted = options();
  adapted.lora.adapter = (golden_path(GetParam()) / "adapter").string();
  EXPECT_LE(difference(adapted, "adapter"), kTolerance);
  const auto loaded = load_encoder(adapted);
  int trained = 0;
  for (int i = 0; i < loaded->store.count(); ++i) trained += loaded->store.trained(i) ? 1 : 0;
  EXPECT_GT(trained, 2) << "adapters and image projection";
  EXPECT_LT(trained, loaded->store.count()) << "the base is frozen";
}

TEST_P(TinyDecoder, InferenceChangesNothing) {
  auto frozen = options();
  if (has_adapter()) frozen.lora.adapter = (golden_path(GetParam()) / "adapter").string();
  const at::Tensor trained = embed(frozen);
  frozen.trainable = false;
  const auto loaded = load_encoder(frozen);
  EXPECT_TRUE(loaded->embed(golden_batch(golden_)).equal(trained));
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
  half.lora.adapter = (golden_path(GetParam()) / "adapter").string();
  EXPECT_LE(relative_difference(embed(half), golden_.tensor("adapter")), kBfloat16Tolerance);
}

TEST_P(TinyDecoder, PackingDoesNotMatter) {
  EXPECT_LE(packing_difference(*load_encoder(options()), golden_batch(golden_)), kPackingTolerance);
  auto both = options();
  both.model.mask = Mask::kBidirectional;
  EXPECT_LE(packing_difference(*load_encoder(both), golden_batch(golden_)), kPackingTolerance);
}

// Rotary positions are relative: what compat.padded_positions moves apart counts, a common offset does not.
TEST_P(TinyDecoder, DistancesOfPositionsCount) {
  const auto loaded = load_encoder(options());
  PackedBatch batch = golden_batch(golden_);
  batch.position_ids = batch.position_ids + 5;
  EXPECT_LE(max_difference(loaded->embed(batch), golden_.tensor("float64")), 2 * kTolerance);
  batch.position_ids = at::where(batch.position_ids > 8, batch.position_ids + 7, batch.position_ids);
  EXPECT_GT(max_difference(loaded->embed(batch), golden_.tensor("float64")), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Parity, TinyDecoder,
                         ::testing::Values("tiny_qwen2", "tiny_qwen2_untied", "tiny_llama3", "tiny_qwen3",
                                           "tiny_mistral", "tiny_smollm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
