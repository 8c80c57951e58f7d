// Late fusion: what the text encoder sees, the block against torch's formula, gradients, packing, bf16, files, faults.
#include "model/fusion/late_fusion.hpp"

#include <cmath>

#include "fixtures/encoder_checks.hpp"
#include "fixtures/fault.hpp"
#include "kernels/pooling.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

using namespace testing;
using test::fault_of;

constexpr int64_t kVocabulary = 89;

struct Choice {
  Fusion fusion = Fusion::kLate;
  double dropout = 0;
  bool trainable = true;
  Compute compute = Compute::kFloat32;
  int64_t image_width = kTinyImageWidth;
  ImageAdapterKind adapter = ImageAdapterKind::kLinear;
  int64_t heads = 3;
};

struct Loaded : LoadedEncoder {
  Loaded(const std::filesystem::path& folder, const Choice& choice) : LoadedEncoder(options_of(folder, choice), 5) {}

 private:
  static EncoderOptions options_of(const std::filesystem::path& folder, const Choice& choice) {
    EncoderOptions options;
    options.model.path = folder.string();
    options.model.dropout = choice.dropout;
    options.model.fusion = choice.fusion;
    options.model.fusion_heads = choice.heads;
    options.model.image_adapter = choice.adapter;
    options.model.compute = choice.compute;
    options.image_width = choice.image_width;
    options.trainable = choice.trainable;
    return options;
  }
};

const std::vector<TinySequence> kAll = {{1, 5, 0}, {2, 1, 2}, {3, 17, 1}, {4, 9, 0}, {5, 5, 3}};

// The bags, one by one, through torch.nn.TransformerEncoderLayer's formula.
TEST(LateFusion, IsTheBlockOverTextAndPictures) {
  const auto folder = tiny_model("tiny_bert");
  Loaded late(folder, {}), text(folder, {.fusion = Fusion::kEarly, .image_width = 0});
  const PackedBatch batch = tiny_batch(kAll, kVocabulary);
  const at::Tensor found = late.embed(batch);

  std::vector<at::Tensor> pooled;
  {
    // tiny_batch's tokens depend on their place behind the pictures: take the real ones.
    PackedBatch bare = batch;
    bare.tokens = batch.tokens.index_select(0, batch.text_positions);
    std::vector<int32_t> ends = {0};
    std::vector<at::Tensor> places;
    for (const auto& s : kAll) {
      ends.push_back(ends.back() + static_cast<int32_t>(s.n_tokens));
      places.push_back(at::arange(s.n_tokens, at::kLong));
    }
    bare.position_ids = at::cat(places);
    bare.cu_seqlens = at::tensor(ends, at::kInt);
    bare.image_embeddings = at::Tensor();
    bare.image_positions = at::empty({0}, at::kLong);
    bare.text_positions = at::arange(bare.tokens.size(0), at::kLong);
    bare.max_seqlen = 17;
    pooled = text.embed(bare).unbind(0);
  }
  const auto linear = [&](const at::Tensor& x, const std::string& weight, const std::string& bias) {
    return at::linear(x, late.value("fusion." + weight), late.value("fusion." + bias));
  };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return at::layer_norm(x, {x.size(-1)}, late.value("fusion." + name + ".weight"),
                          late.value("fusion." + name + ".bias"), 1e-5);
  };
  const int64_t d = late.encoder->width(), heads = 3;
  int64_t first_image = 0;
  for (size_t i = 0; i < kAll.size(); ++i) {
    at::Tensor x = pooled[i].unsqueeze(0);
    if (kAll[i].n_images > 0) {
      const at::Tensor images = batch.image_embeddings.narrow(0, first_image, kAll[i].n_images);
      first_image += kAll[i].n_images;
      x = at::cat({x, at::linear(images, late.value("image_projection.weight"), late.value("image_projection.bias"))});
    }
    const auto qkv = linear(x, "self_attn.in_proj_weight", "self_attn.in_proj_bias").chunk(3, -1);
    const auto split = [&](const at::Tensor& rows) { return rows.view({-1, heads, d / heads}).transpose(0, 1); };
    const at::Tensor scores =
        at::softmax(at::matmul(split(qkv[0]), split(qkv[1]).transpose(1, 2)) / std::sqrt(double(d / heads)), -1);
    const at::Tensor context = at::matmul(scores, split(qkv[2])).transpose(0, 1).reshape({-1, d});
    const at::Tensor a = norm(x + linear(context, "self_attn.out_proj.weight", "self_attn.out_proj.bias"), "norm1");
    const at::Tensor y = norm(
        a + linear(at::gelu(linear(a, "linear1.weight", "linear1.bias")), "linear2.weight", "linear2.bias"), "norm2");
    EXPECT_LE(max_difference(found[static_cast<int64_t>(i)], y[0]), 5e-6) << i;
  }
  EXPECT_EQ(late.store.info(late.store.find("fusion.linear1.weight")).shape, std::vector<int64_t>({d, d}));
}

TEST(LateFusion, NeighboursDoNotMatter) {
  Loaded late(tiny_model("tiny_bert"), {.dropout = -1});
  for (const bool training : {false, true}) {
    const PassContext context{.training = training, .seed = 3, .step = 8};
    EXPECT_LE(packing_difference(late, tiny_batch(kAll, kVocabulary), context), 3e-6);
  }
}

TEST(LateFusion, PicturesCount) {
  Loaded late(tiny_model("tiny_bert"), {});
  const PackedBatch with = tiny_batch({{1, 5, 0}, {3, 17, 2}}, kVocabulary);
  PackedBatch other = with;
  other.image_embeddings = with.image_embeddings.clone();
  other.image_embeddings[1].mul_(-1);
  const at::Tensor h = late.embed(with), moved = late.embed(other);
  EXPECT_TRUE(h[0].equal(moved[0]));
  EXPECT_GT(max_difference(h[1], moved[1]), 1e-2);
}

void check_gradients(ImageAdapterKind adapter) {
  const ModelFolder folder("tiny_bert");
  std::filesystem::remove(folder.path() / "image_projection.safetensors");  // a linear one's
  Loaded late(folder.path(), {.dropout = -1, .adapter = adapter});
  const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}, {3, 1, 2}, {4, 8, 0}}, kVocabulary);
  expect_encoder_gradients(late, batch, {.training = true, .seed = 3, .step = 8}, {.step = 4e-3, .relative = 5e-3});
}

TEST(LateFusion, GradientsByFiniteDifferences) {
  check_gradients(ImageAdapterKind::kLinear);
}

TEST(LateFusion, GradientsOfTheMlpByFiniteDifferences) {
  check_gradients(ImageAdapterKind::kMlp);
}

TEST(LateFusion, ChunksAddUp) {
  Loaded late(tiny_model("tiny_bert"), {.dropout = -1});
  const PassContext context{.training = true, .seed = 3, .step = 8};
  EXPECT_LE(chunks_difference(late, tiny_batch(kAll, kVocabulary), 2, context), 1e-5);
}

TEST(LateFusion, NoSequences) {
  Loaded late(tiny_model("tiny_bert"), {});
  expect_nothing_of_no_sequences(late);
}

// A model that was made for pictures answers texts alone, whether the adapter is there or not.
TEST(LateFusion, WithoutPicturesTheBagIsTheText) {
  const ModelFolder folder("tiny_bert");
  Loaded late(tiny_model("tiny_bert"), {});
  late.encoder->files().save(folder.path());
  Loaded bare(folder.path(), {.image_width = 0}), again(folder.path(), {});
  const PackedBatch batch = tiny_batch({{1, 6, 0}, {2, 4, 0}}, kVocabulary);
  const at::Tensor h = late.embed(batch);
  EXPECT_TRUE(again.embed(batch).equal(h));
  EXPECT_TRUE(bare.embed(batch).equal(h));
  EXPECT_LT(bare.store.count(), late.store.count());
  Loaded text(tiny_model("tiny_bert"), {.fusion = Fusion::kEarly, .image_width = 0});
  EXPECT_GT(max_difference(text.embed(batch), h), 1e-2) << "the block stands in the way of every text";
}

TEST(LateFusion, Bfloat16FollowsFloat32) {
  Loaded exact(tiny_model("tiny_bert"), {}), rounded(tiny_model("tiny_bert"), {.compute = Compute::kBfloat16});
  const PackedBatch batch = tiny_batch(kAll, kVocabulary);
  const at::Tensor direction = wave({5, exact.encoder->width()}, 0, 0.9);
  const at::Tensor h = exact.backward(batch, direction, {.training = true});
  const at::Tensor h16 = rounded.backward(batch, direction, {.training = true});
  EXPECT_EQ(h16.scalar_type(), at::kFloat);
  EXPECT_FALSE(h.equal(h16));
  EXPECT_LE(relative_norm(h16, h), 2e-2);
  EXPECT_GT(cosine(rounded.store.flat_grads(), exact.store.flat_grads()), 0.999);
}

TEST(LateFusion, FilesAndFrozenWeights) {
  const ModelFolder folder("tiny_bert");
  Loaded late(tiny_model("tiny_bert"), {});
  for (const char* name : {"fusion.norm2.weight", "fusion.linear1.weight", "fusion.self_attn.in_proj_bias"})
    late.value(name).add_(0.25);
  late.encoder->files().save(folder.path());
  const PackedBatch batch = tiny_batch(kAll, kVocabulary);
  const at::Tensor expected = late.embed(batch);
  EXPECT_TRUE(Loaded(folder.path(), {}).embed(batch).equal(expected));

  Loaded frozen(folder.path(), {.trainable = false});
  EXPECT_TRUE(frozen.embed(batch).equal(expected));
  EXPECT_EQ(frozen.store.flat_values().numel(), 0) << "inference holds no flat buffers";
  Loaded half(folder.path(), {.trainable = false, .compute = Compute::kBfloat16});
  EXPECT_EQ(half.value("fusion.linear1.weight").scalar_type(), at::kBFloat16);
  EXPECT_EQ(half.value("fusion.norm1.weight").scalar_type(), at::kFloat);
  EXPECT_LE(relative_norm(half.embed(batch), expected), 2e-2);

  // Without a file: the seed's values, the same for inference.
  Loaded fresh(tiny_model("tiny_bert"), {}), fresh_frozen(tiny_model("tiny_bert"), {.trainable = false});
  EXPECT_TRUE(fresh_frozen.embed(batch).equal(fresh.embed(batch)));

  {
    const ParameterGroup image = ParameterGroup::kImage, no_decay = ParameterGroup::kImageNoDecay;
    const auto group = [&](const char* name) { return late.store.info(late.store.find(name)).group; };
    EXPECT_EQ(group("fusion.linear2.weight"), image);
    EXPECT_EQ(group("fusion.linear2.bias"), no_decay);
    EXPECT_EQ(group("fusion.norm1.weight"), no_decay);
  }
}

TEST(LateFusion, Faults) {
  EXPECT_FAULT(fault_of([] { Loaded(tiny_model("tiny_bert"), {.heads = 4}); }),
               "model.fusion_heads: 4 found, expected a divisor of the backbone's width 30");
  const ModelFolder folder("tiny_bert");
  const auto path = folder.path() / "fusion.safetensors";
  write_safetensors(path, {{"fusion.norm1.weight", at::ones({30})}});
  EXPECT_FAULT(fault_of([&] { Loaded(folder.path(), {}); }), path.string());
  Loaded late(tiny_model("tiny_bert"), {});
  late.encoder->files().save(folder.path());
  std::map<std::string, at::Tensor> tensors;
  {
    const SafetensorsFile file(path);
    for (const auto& name : file.names()) tensors[name] = file.tensor(name).clone();
  }
  tensors["fusion.linear1.weight"] = at::ones({60, 30});
  write_safetensors(path, tensors);
  EXPECT_FAULT(fault_of([&] { Loaded(folder.path(), {}); }),
               "tensor fusion.linear1.weight is Float [60, 30], expected floats [30, 30]");
}

TEST(LateFusion, ActivationsAreCounted) {
  Loaded late(tiny_model("tiny_bert"), {}), text(tiny_model("tiny_bert"), {.fusion = Fusion::kEarly, .image_width = 0});
  const BatchShape shape{.positions = 400, .sequences = 20, .images = 30, .sum_squared_lengths = 9000};
  const auto with = late.encoder->costs().activation_bytes(shape);
  const auto without = text.encoder->costs().activation_bytes(
      {.positions = 370, .sequences = 20, .images = 0, .sum_squared_lengths = 9000});
  EXPECT_EQ(with.kept_a_layer, without.kept_a_layer) << "pictures are no positions of the backbone";
  const int64_t rows = 50, d = late.encoder->width();
  EXPECT_GE(with.ends - without.ends, rows * 10 * d * 4);
  EXPECT_LE(with.ends - without.ends, 2 * rows * 10 * d * 4);
}

}  // namespace
}  // namespace vixen
