// The real SmolLM2-135M, all 30 layers, against transformers and PEFT: embeddings of texts with pictures in the paper's
// template, and adapters of ours loaded by PEFT.
#include "parity/golden.hpp"

namespace vixen {
namespace {

using testing::golden_batch;
using testing::golden_path;
using testing::load_encoder;
using testing::LoadedEncoder;
using testing::max_difference;
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

// SmolLM2's embeddings reach 40 in one column, where neighbouring float32 numbers are 4e-6 apart: distances are
// relative to the largest value, and absolute between unit rows, which is what scores are made of.
class SmolLm2 : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    folder_ = testing::smollm2_folder(reason);
    if (folder_.empty()) GTEST_SKIP() << reason;
  }
  // Frozen base, adapters without effect (B is zero), the golden's image projection.
  std::unique_ptr<LoadedEncoder> load(EncoderOptions options) const {
    options.lora.rank = 2;
    auto loaded = load_encoder(options);
    for (const char* name : {"image_projection.weight", "image_projection.bias"})
      loaded->store.value(loaded->store.find(name)).copy_(golden_.tensor(name));
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
  SafetensorsFile golden_{golden_path("smollm2_embeddings.safetensors")};
};

TEST_F(SmolLm2, EmbedsAsTransformers) {
  const PackedBatch batch = golden_batch(golden_);
  auto options = options_of(folder_);
  const auto loaded = load(options);
  EXPECT_EQ(loaded->encoder->n_layers(), 30);
  const at::Tensor h = loaded->embed(batch);
  expect_close(h, "float64", kTolerance);
  expect_close(h, "float32", kTolerance);
  const double packing = testing::packing_difference(*loaded, batch) / h.abs().max().item<double>();
  RecordProperty("packing_relative", std::to_string(packing * 1e6) + "e-6");
  EXPECT_LE(packing, kPackingTolerance);
}

TEST_F(SmolLm2, LastTokenAndFirstLayers) {
  auto last = options_of(folder_);
  last.model.pooling = Pooling::kLastToken;
  expect_close(load(last)->embed(golden_batch(golden_)), "last", kTolerance);
  auto cut = options_of(folder_);
  cut.model.layers = 6;
  expect_close(load(cut)->embed(golden_batch(golden_)), "first_layers", kTolerance);
}

TEST_F(SmolLm2, Bfloat16IsClose) {
  auto half = options_of(folder_);
  half.model.compute = Compute::kBfloat16;
  expect_close(load(half)->embed(golden_batch(golden_)), "float64", kBfloat16Tolerance);
}

// The real SmolLM2-135M with all adapters of rank 8, in PEFT.
TEST_F(SmolLm2, AdapterLoadsInPeft) {
  const testing::ScratchFolder scratch("smollm2_adapter"), files("smollm2_batch");
  auto options = options_of(folder_);
  options.lora.rank = 8;
  options.lora.alpha = 16;
  const auto loaded = load_encoder(options);
  testing::randomise_adapters(loaded->store, 0.01);
  const at::Tensor h = loaded->embed(golden_batch(golden_));
  const double largest = h.abs().max().item<double>();
  testing::write_batch(golden_, h, files.path() / "batch.safetensors");
  loaded->encoder->save(scratch.path());
  const double difference =
      testing::differences_in_python({{scratch.path(), files.path() / "batch.safetensors", "ours", {}}}).at(0);
  RecordProperty("absolute", std::to_string(difference * 1e6) + "e-6");
  EXPECT_LE(difference / largest, kTolerance);
}

}  // namespace
}  // namespace vixen
