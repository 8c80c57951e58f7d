// The real SmolLM2-135M, all 30 layers, against transformers and PEFT: embeddings of texts with pictures in the paper's
// template, and adapters of ours loaded by PEFT.
#include "parity/golden_decoder.hpp"

namespace vixen {
namespace {

using namespace testing;

// SmolLM2's embeddings reach 40 in one column, where neighbouring float32 numbers are 4e-6 apart: distances are
// relative to the largest value, and absolute between unit rows, which is what scores are made of.
class SmolLm2 : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    folder_ = smollm2_folder(reason);
    if (folder_.empty()) GTEST_SKIP() << reason;
  }
  // Frozen base, adapters without effect (B is zero), the golden's image projection.
  std::unique_ptr<LoadedEncoder> load(EncoderOptions options) const {
    options.lora.rank = 2;
    auto loaded = load_encoder(options);
    for (const char* name : {"image_projection.weight", "image_projection.bias"})
      loaded->value(name).copy_(golden_.tensor(name));
    loaded->store.refresh_compute();
    return loaded;
  }
  void expect_close(const at::Tensor& h, const char* expected, double tolerance) {
    const at::Tensor wanted = golden_.tensor(expected);
    const auto unit = [](const at::Tensor& rows) {
      const at::Tensor wide = rows.to(at::kDouble);
      return wide / wide.norm(2, 1, true);
    };
    const auto record = [&](const char* what, double value) {
      RecordProperty(std::string(expected) + what, std::to_string(value * 1e6) + "e-6");
    };
    record("_absolute", max_difference(h, wanted));
    record("_relative", relative_difference(h, wanted));
    record("_unit_rows", max_difference(unit(h), unit(wanted)));
    EXPECT_LE(relative_difference(h, wanted), tolerance) << expected;
    EXPECT_LE(max_difference(unit(h), unit(wanted)), tolerance) << expected;
  }

  std::filesystem::path folder_;
  SafetensorsFile golden_{golden_embeddings("smollm2")};
};

TEST_F(SmolLm2, EmbedsAsTransformers) {
  const PackedBatch batch = golden_batch(golden_);
  auto options = golden_options(folder_);
  const auto loaded = load(options);
  EXPECT_EQ(loaded->encoder->n_layers(), 30);
  const at::Tensor h = loaded->embed(batch);
  expect_close(h, "float64", kTolerance);
  expect_close(h, "float32", kTolerance);
  const double packing = packing_difference(*loaded, batch) / largest(h);
  RecordProperty("packing_relative", std::to_string(packing * 1e6) + "e-6");
  EXPECT_LE(packing, kPackingTolerance);
}

TEST_F(SmolLm2, LastTokenAndFirstLayers) {
  auto last = golden_options(folder_);
  last.model.pooling = Pooling::kLastToken;
  expect_close(load(last)->embed(golden_batch(golden_)), "last", kTolerance);
  auto cut = golden_options(folder_);
  cut.model.layers = 6;
  expect_close(load(cut)->embed(golden_batch(golden_)), "first_layers", kTolerance);
}

TEST_F(SmolLm2, Bfloat16IsClose) {
  auto half = golden_options(folder_);
  half.model.compute = Compute::kBfloat16;
  expect_close(load(half)->embed(golden_batch(golden_)), "float64", kBfloat16Tolerance);
}

// The real SmolLM2-135M with all adapters of rank 8, in PEFT.
TEST_F(SmolLm2, AdapterLoadsInPeft) {
  const test::TempDir scratch, files;
  auto options = golden_options(folder_);
  options.lora.rank = 8;
  options.lora.alpha = 16;
  const auto loaded = load_encoder(options);
  randomise_adapters(loaded->store, 0.01);
  const at::Tensor h = loaded->embed(golden_batch(golden_));
  write_batch(golden_, h, files.path() / "batch.safetensors");
  loaded->encoder->files().save(scratch.path());
  const double difference =
      differences_in_python({{scratch.path(), files.path() / "batch.safetensors", "ours", {}}}).at(0);
  RecordProperty("absolute", std::to_string(difference * 1e6) + "e-6");
  EXPECT_LE(difference / largest(h), kTolerance);
}

}  // namespace
}  // namespace vixen
